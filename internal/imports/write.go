package imports

import (
	"encoding/json"
	"fmt"
	"io"

	"sigs.k8s.io/yaml"

	"tulle.dev/tulle/internal/control/object"
)

// Write writes the objects as YAML documents.
func Write(out io.Writer, r *Result) error {
	for i, o := range r.Objects {
		data, err := object.Encode(o)
		if err != nil {
			return err
		}
		var m map[string]any
		if err := json.Unmarshal(data, &m); err != nil {
			return err
		}
		delete(m, "status")
		if meta, ok := m["metadata"].(map[string]any); ok {
			delete(meta, "creationTimestamp")
		}
		text, err := yaml.Marshal(m)
		if err != nil {
			return err
		}
		if i > 0 {
			fmt.Fprintln(out, "---")
		}
		if _, err := out.Write(text); err != nil {
			return err
		}
	}
	return nil
}
