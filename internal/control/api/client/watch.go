package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
)

// Event is one of a watch.
type Event struct {
	// Type is "ADDED", "MODIFIED", "DELETED" or "BOOKMARK".
	Type string `json:"type"`
	// Object is as it is now, JSON; of one that was deleted only its name and the
	// resourceVersion of its end, of a bookmark only that.
	Object json.RawMessage `json:"object"`
}

// Watch calls each with the objects of a namespace, or of all with namespace "",
// and then with every change, until each returns an error, which it returns, or the
// watch ends: then it returns nil, and a new one may go on after the last event's
// resourceVersion. With after it begins with what happened since then; a *Status
// with ReasonExpired says that this is too long ago.
func (c *Client) Watch(ctx context.Context, r Resource, namespace, after string, each func(Event) error) error {
	q := url.Values{"watch": {"1"}, "allowWatchBookmarks": {"true"}}
	if after != "" {
		q.Set("resourceVersion", after)
	}
	resp, err := c.Do(ctx, http.MethodGet, r.path(namespace, "")+"?"+q.Encode(), nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return events(ctx, c, resp.Body, func(e Event) error {
		if e.Type == "ERROR" {
			s := new(Status)
			if err := json.Unmarshal(e.Object, s); err != nil {
				return fmt.Errorf("an event of the control plane can't be read: %w", err)
			}
			return s
		}
		return each(e)
	})
}

// events calls each with every event of a stream of JSON values, until it returns
// an error or the stream ends.
func events[E any](ctx context.Context, c *Client, stream io.Reader, each func(E) error) error {
	d := json.NewDecoder(stream)
	for {
		var e E
		switch err := d.Decode(&e); {
		case errors.Is(err, io.EOF):
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, io.ErrUnexpectedEOF):
			return &UnreachableError{c.where, err}
		case err != nil:
			return fmt.Errorf("an event of the control plane can't be read: %w", err)
		}
		if err := each(e); err != nil {
			return err
		}
	}
}
