package release

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/yaml"

	"github.com/fairway-cd/fairway/internal/core/fence"
)

// decided binds what Helm's client writes to the version that is there just
// before: it reads that, and the fence below is asked after it. So a request
// that waited while another process became responsible, and wrote, is a
// conflict, and is not put over what that one wrote (docs/design/shards.md).
//
// Helm has no versions of its own to name. A conflict that is none of fields is
// tried anew, as somebody has written a status, most of the time; trying anew
// asks the fence again.
type decided struct{ next http.RoundTripper }

// mostConflicts is how often a request is tried anew.
const mostConflicts = 5

// WrappedRoundTripper is for client-go, which looks for the transport below.
func (d *decided) WrappedRoundTripper() http.RoundTripper { return d.next }

// RoundTrip implements http.RoundTripper.
func (d *decided) RoundTrip(req *http.Request) (*http.Response, error) {
	if !changes(req) || fence.From(req.Context()) == nil {
		return d.next.RoundTrip(req)
	}
	body, err := drain(req.Body)
	if err != nil {
		return nil, fmt.Errorf("read what is to be sent: %w", err)
	}
	for try := 0; ; try++ {
		live, err := d.look(req)
		if err != nil {
			return nil, err
		}
		bound, err := bind(req, body, live)
		if err != nil {
			return nil, fmt.Errorf("bind %s %s to what is there: %w", req.Method, req.URL.Path, err)
		}
		again := req.Clone(req.Context())
		again.Body, again.ContentLength = io.NopCloser(bytes.NewReader(bound)), int64(len(bound))
		again.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(bound)), nil }
		res, err := d.next.RoundTrip(again)
		if err != nil || res.StatusCode != http.StatusConflict || bytes.Equal(bound, body) || try == mostConflicts {
			return res, err
		}
		answer, err := drain(res.Body)
		if err != nil {
			return nil, fmt.Errorf("read the answer to %s %s: %w", req.Method, req.URL.Path, err)
		}
		res.Body = io.NopCloser(bytes.NewReader(answer))
		if ofFields(answer) {
			return res, nil
		}
	}
}

// changes says whether a request changes one object that is named in it.
func changes(req *http.Request) bool {
	switch req.Method {
	case http.MethodPut, http.MethodPatch, http.MethodDelete:
		return !req.URL.Query().Has("dryRun")
	}
	return false
}

func drain(body io.ReadCloser) ([]byte, error) {
	if body == nil {
		return nil, nil
	}
	defer body.Close()
	return io.ReadAll(body)
}

// look reads what is there under the path of a request: nil where that is
// nothing, and something without a version where it may not be seen.
func (d *decided) look(req *http.Request) (*metav1.PartialObjectMetadata, error) {
	get := req.Clone(req.Context())
	get.Method, get.Body, get.GetBody, get.ContentLength = http.MethodGet, nil, nil, 0
	get.URL.RawQuery = ""
	get.Header.Del("Content-Type")
	get.Header.Set("Accept", "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1")
	res, err := d.next.RoundTrip(get)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", req.URL.Path, err)
	}
	switch {
	case res.StatusCode == http.StatusNotFound:
		return nil, nil
	case res.StatusCode >= http.StatusInternalServerError || res.StatusCode == http.StatusTooManyRequests:
		return nil, apierrors.NewGenericServerResponse(res.StatusCode, http.MethodGet, schema.GroupResource{}, req.URL.Path, "", 0, false)
	case res.StatusCode != http.StatusOK:
		return &metav1.PartialObjectMetadata{}, nil
	}
	live := &metav1.PartialObjectMetadata{}
	if err := json.Unmarshal(body, live); err != nil {
		return nil, fmt.Errorf("read %s: %w", req.URL.Path, err)
	}
	return live, nil
}

// bind returns the body of a request with the version of what is there.
func bind(req *http.Request, body []byte, live *metav1.PartialObjectMetadata) ([]byte, error) {
	kind, _, _ := strings.Cut(req.Header.Get("Content-Type"), ";")
	version := "1" // which no object has: it is only made where it is still not there
	if live != nil {
		version = live.ResourceVersion
	} else if types.PatchType(kind) != types.ApplyPatchType {
		return body, nil
	}
	switch {
	case version == "":
		return body, nil
	case req.Method == http.MethodDelete:
		return bindDeletion(body, live)
	case types.PatchType(kind) == types.JSONPatchType:
		return bindSteps(body, version)
	case types.PatchType(kind) == types.ApplyPatchType:
		var err error
		if body, err = yaml.YAMLToJSON(body); err != nil {
			return nil, err
		}
	}
	var obj map[string]any
	if err := utiljson.Unmarshal(body, &obj); err != nil {
		return nil, err
	}
	meta, _ := obj["metadata"].(map[string]any)
	if meta == nil {
		meta = map[string]any{}
		obj["metadata"] = meta
	}
	if has, _ := meta["resourceVersion"].(string); has != "" {
		return body, nil
	}
	meta["resourceVersion"] = version
	return json.Marshal(obj)
}

func bindDeletion(body []byte, live *metav1.PartialObjectMetadata) ([]byte, error) {
	options := metav1.DeleteOptions{TypeMeta: metav1.TypeMeta{Kind: "DeleteOptions", APIVersion: "v1"}}
	if len(body) > 0 {
		if err := json.Unmarshal(body, &options); err != nil {
			return nil, err
		}
	}
	if options.Preconditions == nil {
		options.Preconditions = &metav1.Preconditions{UID: &live.UID, ResourceVersion: &live.ResourceVersion}
	}
	return json.Marshal(options)
}

func bindSteps(body []byte, version string) ([]byte, error) {
	var steps []any
	if err := utiljson.Unmarshal(body, &steps); err != nil {
		return nil, err
	}
	first := map[string]any{"op": "replace", "path": "/metadata/resourceVersion", "value": version}
	return json.Marshal(append([]any{first}, steps...))
}

// ofFields says that a conflict is with who else owns fields.
func ofFields(answer []byte) bool {
	var status metav1.Status
	if json.Unmarshal(answer, &status) != nil || status.Details == nil {
		return false
	}
	for _, c := range status.Details.Causes {
		if c.Type == metav1.CauseTypeFieldManagerConflict {
			return true
		}
	}
	return false
}
