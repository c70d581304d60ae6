package control

import (
	"context"
	"strings"
	"time"

	"tulle.dev/tulle/internal/control/api/client"
	"tulle.dev/tulle/internal/control/federation"
)

// federatedCheck says whether the other trust domains' bundles can be fetched;
// nothing when there are none.
func federatedCheck(f *federation.Federation, any func() bool) func(context.Context) []client.Check {
	return func(context.Context) []client.Check {
		if !any() {
			return nil
		}
		c := client.Check{Category: "identity", Description: "the trust bundles of federated domains are fresh", Result: client.Success}
		if problems := f.Problems(time.Now()); len(problems) > 0 {
			c.Result, c.Error = client.Warning, strings.Join(problems, "; ")
			c.Hint = "is the endpoint right and reachable? When the other mesh has another root than we know, bring its bundle again: there tulle trust bundle, here the Mesh object's federatedTrustDomains[].bundle"
		}
		return []client.Check{c}
	}
}
