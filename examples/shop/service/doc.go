// Package service is what the shop's HTTP services share: how one finds
// another, how one serves and stops, and how JSON goes back and forth.
//
// A service is found as in Kubernetes: by the environment variables
// NAME_SERVICE_HOST and NAME_SERVICE_PORT when they are set, else by its name
// and usual port.
package service
