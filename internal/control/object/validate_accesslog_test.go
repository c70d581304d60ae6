package object

import (
	"strings"
	"testing"

	"tulle.dev/tulle/api/v1alpha1"
)

// TestAccessLog: what a Mesh says of access logs is refused by field.
func TestAccessLog(t *testing.T) {
	override := func(o v1alpha1.AccessLogOverride) v1alpha1.AccessLog {
		return v1alpha1.AccessLog{Overrides: []v1alpha1.AccessLogOverride{o}}
	}
	for name, c := range map[string]struct {
		log  v1alpha1.AccessLog
		want string // the field, "" for none
	}{
		"nothing":          {v1alpha1.AccessLog{}, ""},
		"all":              {v1alpha1.AccessLog{Mode: "All", SamplePercent: 10}, ""},
		"a mode":           {v1alpha1.AccessLog{Mode: "Some"}, "mode"},
		"a sample":         {v1alpha1.AccessLog{Mode: "All", SamplePercent: 101}, "samplePercent"},
		"a namespace":      {override(v1alpha1.AccessLogOverride{Namespace: "shop", Mode: "Off"}), ""},
		"a service":        {override(v1alpha1.AccessLogOverride{Namespace: "shop", Service: "cart", Mode: "All", SamplePercent: 1}), ""},
		"no namespace":     {override(v1alpha1.AccessLogOverride{Service: "cart", Mode: "All"}), "overrides[0].namespace"},
		"no mode":          {override(v1alpha1.AccessLogOverride{Namespace: "shop"}), "overrides[0].mode"},
		"no name":          {override(v1alpha1.AccessLogOverride{Namespace: "shop", Workload: "a/b", Mode: "All"}), "overrides[0].workload"},
		"two names":        {override(v1alpha1.AccessLogOverride{Namespace: "shop", Service: "a", Gateway: "b", Mode: "All"}), "overrides[0].service"},
		"a sample of none": {override(v1alpha1.AccessLogOverride{Namespace: "shop", Mode: "All", SamplePercent: -1}), "overrides[0].samplePercent"},
	} {
		m := Mesh.New().(*v1alpha1.Mesh)
		Default(m)
		m.Spec.AccessLog = c.log
		issues := validateMesh(m)
		switch {
		case c.want == "" && len(issues) > 0:
			t.Errorf("%s: refused: %v", name, issues)
		case c.want != "" && (len(issues) != 1 || issues[0].Field != "spec.accessLog."+c.want):
			t.Errorf("%s: got %v, want one about %s", name, issues, c.want)
		}
	}
	m := Mesh.New().(*v1alpha1.Mesh)
	Default(m)
	for range maxOverrides + 1 {
		m.Spec.AccessLog.Overrides = append(m.Spec.AccessLog.Overrides, v1alpha1.AccessLogOverride{Namespace: "shop", Mode: "Off"})
	}
	if issues := validateMesh(m); len(issues) != 1 || !strings.Contains(issues[0].Field, "overrides") {
		t.Errorf("too many: %v", issues)
	}
}
