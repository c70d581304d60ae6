package control

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"tulle.dev/tulle/internal/ca"
	"tulle.dev/tulle/internal/control/api/client"
	"tulle.dev/tulle/internal/control/graph"
	"tulle.dev/tulle/internal/identity"
	"tulle.dev/tulle/internal/mesh"
)

const (
	lowDisk  = 200 << 20
	maxNamed = 5 // of one check's culprits
	// A certificate should have been renewed when this share of its life is
	// left; proxies renew at half.
	lateRenewal = 10
)

// Check looks at every aspect. It answers in order of the categories.
func (f *facts) Check(ctx context.Context) (*client.CheckReport, error) {
	out := &client.CheckReport{Result: client.Success, Checks: []client.Check{}}
	add := func(category, description string, problem error, warn bool, hint string) {
		c := client.Check{Category: category, Description: description, Result: client.Success}
		if problem != nil {
			c.Result, c.Error, c.Hint = client.Failure, problem.Error(), hint
			if warn {
				c.Result = client.Warning
			}
		}
		out.Checks = append(out.Checks, c)
	}
	f.checkStore(ctx, add)
	f.checkIdentity(add)
	f.checkObjects(ctx, add)
	f.checkProxies(add)
	for _, more := range f.more {
		out.Checks = append(out.Checks, more(ctx)...)
	}
	for _, c := range out.Checks {
		switch {
		case c.Result == client.Failure:
			out.Result = client.Failure
		case c.Result == client.Warning && out.Result == client.Success:
			out.Result = client.Warning
		}
	}
	return out, nil
}

type addCheck func(category, description string, problem error, warn bool, hint string)

func (f *facts) checkStore(ctx context.Context, add addCheck) {
	st, err := f.store.Status(ctx)
	add("control plane", "the store ("+st.Kind+") answers and can be written", err, false,
		"look at the control plane's log; with an external etcd: etcdctl endpoint health; when it is full, delete objects that aren't needed and free disk space")
	if err == nil && st.Quota > 0 {
		var problem error
		if st.Bytes > st.Quota*8/10 {
			problem = fmt.Errorf("%d MiB of its quota of %d MiB are used", st.Bytes>>20, st.Quota>>20)
		}
		add("control plane", "the store is well below its quota", problem, true, "delete objects that aren't needed any more")
	}
	var fs syscall.Statfs_t
	if err := syscall.Statfs(f.config.DataDir, &fs); err == nil {
		free := uint64(fs.Bavail) * uint64(fs.Bsize)
		var problem error
		if free < lowDisk {
			problem = fmt.Errorf("%d MiB are free where %s is", free>>20, f.config.DataDir)
		}
		add("control plane", "the data directory's disk has room", problem, false, "free some space: etcd ends when it can't write")
	}
}

func (f *facts) checkIdentity(add addCheck) {
	root, issuer, rotated := f.ca.Ends()
	now := time.Now()
	var problem error
	if left := root.Sub(now); left < 90*24*time.Hour {
		problem = fmt.Errorf("it ends on %s", root.Format(time.DateOnly))
	}
	add("identity", "the CA's root is valid for long enough", problem, root.After(now), "plan the change to a new root")
	problem = nil
	if left := issuer.Sub(now); left < 14*24*time.Hour {
		problem = fmt.Errorf("it ends on %s", issuer.Format(time.DateTime))
	}
	hint := "it is rotated by itself: is this machine's clock right, is there room on the disk?"
	if !rotated {
		hint = "bring a new one: --ca-issuer, --ca-key"
	}
	add("identity", "the CA's issuing certificate is valid for long enough", problem, issuer.After(now), hint)
	problem = nil
	if s := f.credentials.SVID(); s == nil || now.After(s.Leaf.NotAfter) || now.Before(s.Leaf.NotBefore) {
		problem = fmt.Errorf("it is not valid now, %s", now.UTC().Format(time.DateTime))
	}
	add("identity", "the control plane's own certificate is valid", problem, false, "is this machine's clock right? A jump back by more than a day is too much")
}

// named lists culprits, a bounded number.
func named(list []string) string {
	slices.Sort(list)
	if len(list) > maxNamed {
		return fmt.Sprintf("%s and %d more", strings.Join(list[:maxNamed], ", "), len(list)-maxNamed)
	}
	return strings.Join(list, ", ")
}

func problemOf(list []string, format string) error {
	if len(list) == 0 {
		return nil
	}
	return fmt.Errorf(format, named(list))
}

func (f *facts) checkObjects(_ context.Context, add addCheck) {
	var bad, unused []string
	for ref, s := range f.loop.statuses() {
		label := strings.ToLower(ref.Kind.Name) + " " + ref.Name.String()
		look := func(where string, conditions []graph.Condition) {
			for _, c := range conditions {
				if !c.True && c.Type != "Conflicted" && c.Type != "Programmed" || c.True && c.Type == "PartiallyInvalid" {
					bad = append(bad, fmt.Sprintf("%s%s: %s: %s", label, where, c.Reason, c.Message))
				}
			}
		}
		look("", s.Conditions)
		for _, p := range s.Parents {
			look("", p.Conditions)
		}
		for _, a := range s.Ancestors {
			look("", a.Conditions)
		}
		for _, l := range s.Listeners {
			look(" listener "+l.Name, l.Conditions)
		}
	}
	add("objects", "every object makes sense and its references lead somewhere", problemOf(bad, "%s"), false, "tulle describe KIND NAME says what is wrong with each")
	snap := f.Snapshot()
	routed := map[string]bool{}
	for _, s := range snap.Services {
		for _, p := range s.Ports {
			set := snap.Endpoints[mesh.PortKey{Service: s.Name, Port: p.Port}]
			if set == nil || !slices.ContainsFunc(set.Endpoints, func(e mesh.Endpoint) bool { return e.Health <= mesh.Suspect }) {
				if len(s.Routes[p.Port].Hosts)+len(s.Streams[p.Port].Hosts) == 0 && !routed[s.Name.String()] {
					unused = append(unused, fmt.Sprintf("%s:%d", s.Name, p.Port))
				}
			}
		}
	}
	add("objects", "every service port has an endpoint that may be called", problemOf(unused, "none for %s"), true,
		"tulle diagnostics endpoints SERVICE shows what is there; start the program with tulle run --service NAME, or apply a Workload or an EndpointSlice")
}

// newToken says how a proxy that lost its certificate comes back. who is
// "NAMESPACE/SERVICE-ACCOUNT".
func (f *facts) newToken(who string) string {
	return fmt.Sprintf("A program under tulle run: run it again. Another proxy, if it is new or its certificate ended more than %d days ago, needs a join token: tulle --data-dir %s join-token %s > FILE; then tulle-proxy --join-token-file FILE",
		int(ca.RecoveryWindow.Hours()/24), filepath.Dir(f.at.ControlSocket), who)
}

func (f *facts) checkProxies(add addCheck) {
	var away, rejected, deaf, behind, late, bypass []string
	lost := "NAMESPACE/SERVICE-ACCOUNT"
	proxies := f.push.Proxies()
	now := time.Now()
	snap := f.Snapshot()
	for _, p := range proxies {
		n := p.Name + "." + p.Namespace
		if !p.Connected {
			if snap.Workloads[mesh.Name{Namespace: p.Namespace, Name: p.Name}] != nil || p.Role == "gateway" {
				away = append(away, fmt.Sprintf("%s (since %s)", n, p.Since.Format(time.TimeOnly)))
				if id, err := identity.Parse(p.Identity); err == nil {
					lost = id.Namespace + "/" + id.ServiceAccount
				}
			}
			continue
		}
		if p.Rejected != "" {
			rejected = append(rejected, n+": "+p.Rejected)
		}
		if p.Role == "gateway" && !p.Ready && p.Detail != "" {
			deaf = append(deaf, n+": "+p.Detail)
		}
		if p.Sent != p.Acknowledged && now.Sub(p.Since) > 10*time.Second {
			behind = append(behind, n)
		}
		if left := p.CertificateExpires.Sub(now); !p.CertificateExpires.IsZero() && left < snap.Settings.CertificateTTL/lateRenewal {
			late = append(late, n)
		}
		if p.Mode == "explicit" && p.Role != "gateway" {
			bypass = append(bypass, n)
		}
	}
	for n, g := range snap.Gateways {
		if len(g.Listeners) > 0 && !slices.ContainsFunc(proxies, func(p client.Proxy) bool {
			return p.Role == "gateway" && p.Name == n.Name && p.Namespace == n.Namespace
		}) {
			away = append(away, "gateway "+n.String()+" (never came)")
			lost = n.Namespace + "/" + n.Name
		}
	}
	add("proxies", "every proxy is connected", problemOf(away, "not connected: %s"), false,
		"is the program still running? (tulle up -f FILE runs a gateway's proxy as well.) "+f.newToken(lost))
	add("proxies", "every proxy has taken what it was told", problemOf(rejected, "%s"), false, "the proxy goes on with what it had; tulle diagnostics proxy NAME shows it")
	add("proxies", "every gateway's listeners are open", problemOf(deaf, "%s"), false, "is the port another program's? (ss -ltnp shows whose) Stop that, or change the Gateway's port; it is tried again every few seconds")
	add("proxies", "every proxy is up to date", problemOf(behind, "behind: %s"), true, "is the machine overloaded, or the network slow?")
	add("proxies", "every proxy renews its certificate in time", problemOf(late, "late: %s"), true, "tulle diagnostics proxy NAME shows why it can't renew")
	var suspects []string
	for _, n := range f.push.Suspects() {
		suspects = append(suspects, n.String())
	}
	add("proxies", "no workload is kept on suspicion", problemOf(suspects, "many leases ended at once; kept, though their proxies are gone: %s"), true,
		"they go by themselves when their machine refuses connections, and at the latest after ten minutes; tulle delete workload NAME removes one now")
	add("proxies", "nothing can go around a proxy", problemOf(bypass, "in explicit mode a program's own port can be called directly: %s"), true,
		"tulle run --help says what interception needs")
}
