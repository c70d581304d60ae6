package schema

import (
	"path/filepath"
	"testing"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
)

// TestAccepted: the API server takes what is in api/crds: schemas are structural,
// each rule compiles and what it may cost at most is within the limits.
func TestAccepted(t *testing.T) {
	files, err := filepath.Glob("../../../../api/crds/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no files", err)
	}
	for _, f := range files {
		crd := readCRD(t, f)
		apiextensionsv1.SetObjectDefaults_CustomResourceDefinition(crd)
		var in apiextensions.CustomResourceDefinition
		if err := apiextensionsv1.Convert_v1_CustomResourceDefinition_To_apiextensions_CustomResourceDefinition(crd, &in, nil); err != nil {
			t.Fatal(err)
		}
		in.Status.StoredVersions = []string{in.Spec.Versions[0].Name} // as the server sets it
		for _, e := range validation.ValidateCustomResourceDefinition(t.Context(), &in) {
			t.Errorf("%s: %v", filepath.Base(f), e)
		}
	}
}
