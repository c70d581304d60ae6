package object

import (
	"fmt"

	"k8s.io/apimachinery/pkg/util/validation"

	"tulle.dev/tulle/api/v1alpha1"
)

// maxOverrides bounds the overrides of the access log.
const maxOverrides = 64

// accessLog validates what proxies' access logs are to have.
func (is *issues) accessLog(l *v1alpha1.AccessLog) {
	mode := func(at string, m v1alpha1.AccessLogMode, sample int32) {
		switch m {
		case v1alpha1.AccessLogOff, v1alpha1.AccessLogFailed, v1alpha1.AccessLogAll:
		default:
			is.add(at+"mode", "%q: want Off, Failed or All", m)
		}
		if sample < 0 || sample > 100 {
			is.add(at+"samplePercent", "%d: want 1 to 100, or leave it out", sample)
		}
	}
	if l.Mode != "" || l.SamplePercent != 0 {
		mode("spec.accessLog.", l.Mode, l.SamplePercent)
	}
	is.atMost("spec.accessLog.overrides", len(l.Overrides), maxOverrides)
	for i := range l.Overrides {
		o, at := &l.Overrides[i], fmt.Sprintf("spec.accessLog.overrides[%d].", i)
		mode(at, o.Mode, o.SamplePercent)
		if len(validation.IsDNS1123Label(o.Namespace)) > 0 {
			is.add(at+"namespace", "%q: want the name of a namespace", o.Namespace)
		}
		n := 0
		for field, name := range map[string]string{"service": o.Service, "workload": o.Workload, "gateway": o.Gateway} {
			if name == "" {
				continue
			}
			n++
			if len(validation.IsDNS1123Subdomain(name)) > 0 {
				is.add(at+field, "%q: want a name without its namespace", name)
			}
		}
		if n > 1 {
			is.add(at+"service", "service, workload and gateway: want at most one of them")
		}
	}
}
