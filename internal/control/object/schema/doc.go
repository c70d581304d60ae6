// Package schema fills in and checks objects by the schemas that their kinds are
// published with (CustomResourceDefinitions): OpenAPI v3 with defaults, and rules
// in CEL. It runs the code of the Kubernetes API server with the API server's
// limits, so that an object means the same in a cluster and outside.
//
// In come objects as JSON values (maps, slices, int64, float64, string, bool); out
// go the same with defaults, and problems with a field's path. Who calls it:
// control/object. The schemas are embedded in short (compact/): one version of
// each, without descriptions and status. The Gateway API's are those of the
// experimental channel, for that alone has an HTTPRoute's retry and
// sessionPersistence; Tulle's own are made from api/crds. After a change of either,
// make crds.
//
// A schema is read when its kind is first used, and a rule is compiled when an
// object first has the part that it is about. All is safe for concurrent use.
package schema
