//go:build !pkcs11 || !cgo

package main

import (
	"errors"

	"tulle.dev/tulle/internal/signer"
)

func openToken(tokenFlags) ([]signer.Key, func(), error) {
	return nil, nil, errors.New("--pkcs11-module: this tulle-signer was built without PKCS #11: make signer builds one with it")
}
