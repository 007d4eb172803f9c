package release

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"sigs.k8s.io/yaml"
)

// Digest is of all that a record says, but for the chart's files: another one
// means that somebody has acted on the release.
func Digest(rec *Record) string {
	h := sha256.New()
	err := json.NewEncoder(h).Encode(map[string]any{
		"name": rec.Name, "namespace": rec.Namespace, "version": rec.Version, "info": rec.Info,
		"chart": rec.Chart.Metadata, "config": rec.Config, "manifest": rec.Manifest, "hooks": rec.Hooks,
	})
	if err != nil {
		fmt.Fprintf(h, "unencodable: %v", err) // it came from JSON
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil))
}

// ConfigDigest is of values; Flux' form: of the YAML with sorted keys, and of
// nothing where there are none.
func ConfigDigest(values map[string]any) string {
	var text []byte
	if len(values) > 0 {
		text, _ = yaml.Marshal(values) // values came from YAML
	}
	sum := sha256.Sum256(text)
	return "sha256:" + hex.EncodeToString(sum[:])
}
