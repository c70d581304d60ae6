package shop

import _ "embed"

// Mesh holds the objects around the shop (mesh.yaml): its services, the split
// of the recommendations, the gateway its customers come through.
//
//go:embed mesh.yaml
var Mesh []byte

// Page is where the gateway of Mesh serves the shop.
const Page = "http://127.0.0.1:8080/"

// Program is one program of the shop, as somebody would start it by hand:
//
//	shop ARGS...
//
// Each listens on its own loopback port, so that all of them also run on one
// host with no network namespaces.
type Program struct {
	// Name is unique: "recommendations-v2".
	Name string
	// Args are the arguments of the program built from examples/shop/cmd.
	Args []string
	// Service is the service it serves and ServicePort that service's port;
	// empty and 0 for a program that only calls others.
	Service     string
	ServicePort uint16
	// Port is where the program itself listens on 127.0.0.1: the service's
	// targetPort in Mesh.
	Port uint16
	// Labels say what the program is; the selectors in Mesh refer to them.
	Labels map[string]string
	// Calls names the services it calls, "SERVICE:PORT".
	Calls []string
}

// Programs lists the shop's programs in an order in which they can be started.
// The order is for people: a program that comes up before the ones it calls
// waits for nothing and answers with errors until they are there.
func Programs() []Program {
	return []Program{
		{Name: "store", Args: []string{"store", "-listen", "127.0.0.1:7379"}, Service: "store", ServicePort: 6379, Port: 7379,
			Labels: map[string]string{"app": "store"}},
		{Name: "catalogue", Args: []string{"catalogue", "-listen", "127.0.0.1:7081"}, Service: "catalogue", ServicePort: 8080, Port: 7081,
			Labels: map[string]string{"app": "catalogue"}},
		{Name: "payment", Args: []string{"payment", "-listen", "127.0.0.1:7082"}, Service: "payment", ServicePort: 8080, Port: 7082,
			Labels: map[string]string{"app": "payment"}},
		{Name: "recommendations-v1", Args: []string{"recommendations", "-listen", "127.0.0.1:7083", "-version", "v1"}, Service: "recommendations-v1", ServicePort: 8080, Port: 7083,
			Labels: map[string]string{"app": "recommendations", "version": "v1"}, Calls: []string{"catalogue:8080"}},
		{Name: "recommendations-v2", Args: []string{"recommendations", "-listen", "127.0.0.1:7084", "-version", "v2"}, Service: "recommendations-v2", ServicePort: 8080, Port: 7084,
			Labels: map[string]string{"app": "recommendations", "version": "v2"}, Calls: []string{"catalogue:8080"}},
		{Name: "cart", Args: []string{"cart", "-listen", "127.0.0.1:7085"}, Service: "cart", ServicePort: 8080, Port: 7085,
			Labels: map[string]string{"app": "cart"}, Calls: []string{"store:6379", "catalogue:8080", "payment:8080"}},
		{Name: "web", Args: []string{"web", "-listen", "127.0.0.1:7086"}, Service: "web", ServicePort: 8080, Port: 7086,
			Labels: map[string]string{"app": "web"}, Calls: []string{"catalogue:8080", "cart:8080", "recommendations:8080"}},
		{Name: "load", Args: []string{"load"},
			Labels: map[string]string{"app": "load"}, Calls: []string{"web:8080"}},
	}
}
