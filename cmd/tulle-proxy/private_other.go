//go:build !linux

package main

func keepPrivate() error { return nil }
