// Package object knows the kinds of the mesh as data, and turns documents into
// objects: YAML or JSON in; typed, defaulted, validated objects out, or errors
// that name file, line, field, what is wrong and what would be right.
//
// Unknown fields, wrong types, duplicate keys and values that can't be are
// rejected here. References between objects are not: control/graph checks them
// and answers with conditions. Who calls it: the CLI (apply, view), control/api
// (PUT) and control/store (reading back). It is pure.
package object
