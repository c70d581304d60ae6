package schema

import (
	"embed"
	"encoding/json"
	"slices"
	"sync"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
)

//go:embed compact/*.json
var compact embed.FS

// Schema is the schema of one kind. Its maker knows that it exists; the rest is
// read on first use.
type Schema struct {
	file string

	read  sync.Once
	props apiextensions.JSONSchemaProps
	// tree is never written to once it is made.
	tree *schema.Structural

	build   sync.Once
	openapi validation.SchemaValidator
	rules   *rules // nil when there are none
}

// New returns the schema of a resource by its plural and group, such as
// "httproutes" of "gateway.networking.k8s.io". It must be one that is embedded.
func New(group, plural string) *Schema { return &Schema{file: fileName(group, plural)} }

func fileName(group, plural string) string { return group + "_" + plural + ".json" }

// must is for what is embedded: a test reads and compiles all of it.
func (s *Schema) must(err error) {
	if err != nil {
		panic("schema: " + s.file + ": " + err.Error())
	}
}

func (s *Schema) load() {
	s.read.Do(func() {
		data, err := compact.ReadFile("compact/" + s.file)
		s.must(err)
		var v1 apiextensionsv1.JSONSchemaProps
		s.must(json.Unmarshal(data, &v1))
		s.must(apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(&v1, &s.props, nil))
		s.tree, err = schema.NewStructural(&s.props)
		s.must(err)
	})
}

func (s *Schema) prepare() {
	s.load()
	s.build.Do(func() {
		var err error
		s.openapi, _, err = validation.NewSchemaValidator(&s.props)
		s.must(err)
		bare := s.tree.DeepCopy()
		without(bare)
		s.rules = newRules(s.tree, bare, true)
	})
}

// Default fills in what was left out; a null where none is allowed counts as that.
func (s *Schema) Default(o map[string]any) {
	s.load()
	defaulting.PruneNonNullableNullsWithoutDefaults(o, s.tree)
	defaulting.Default(o, s.tree)
}

// blocking are the errors after which the rules aren't looked at, as in the API
// server: they may count on fields and types.
var blocking = []field.ErrorType{field.ErrorTypeNotSupported, field.ErrorTypeRequired, field.ErrorTypeTooLong, field.ErrorTypeTooMany, field.ErrorTypeTypeInvalid}

// Validate says what is wrong with an object that Default was done to.
func (s *Schema) Validate(o map[string]any) []Problem {
	s.prepare()
	errs := validation.ValidateCustomResource(nil, o, s.openapi)
	errs = append(errs, listtype.ValidateListSetsAndMaps(nil, s.tree, o)...)
	if !slices.ContainsFunc(errs, func(e *field.Error) bool { return slices.Contains(blocking, e.Type) }) {
		more, _ := s.rules.check(nil, o, celconfig.RuntimeCELCostBudget)
		errs = append(errs, more...)
	}
	return problems(errs)
}
