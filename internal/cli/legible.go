package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// plain makes what somebody else said safe for a terminal: what is no letter, mark,
// number, sign or space is written as an escape.
func plain(s string) string {
	strange := func(r rune) bool { return !unicode.IsGraphic(r) }
	if utf8.ValidString(s) && strings.IndexFunc(s, strange) < 0 {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[0])
		case unicode.IsGraphic(r):
			b.WriteRune(r)
		default:
			quoted := strconv.QuoteRuneToGraphic(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
		s = s[n:]
	}
	return b.String()
}

// legible makes JSON safe for a terminal that way, and leaves it the same JSON: what
// isn't graphic can be in its strings only, as an escape too.
func legible(data []byte) []byte {
	strange := func(r rune) bool { return !unicode.IsGraphic(r) && r != '\n' && r != '\t' && r != '\r' }
	if utf8.Valid(data) && bytes.IndexFunc(data, strange) < 0 {
		return data
	}
	var b bytes.Buffer
	for _, r := range string(data) { // what isn't UTF-8 is U+FFFD
		switch {
		case !strange(r):
			b.WriteRune(r)
		case r >= 0x10000: // a surrogate pair
			fmt.Fprintf(&b, `\u%04x\u%04x`, 0xd800+(r-0x10000)>>10, 0xdc00+(r-0x10000)&0x3ff)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.Bytes()
}

// cleanse makes every text in an answer graphic, for a command that shows it.
func cleanse(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		if v.CanSet() {
			v.SetString(plain(v.String()))
		}
	case reflect.Pointer:
		cleanse(v.Elem())
	case reflect.Interface:
		if !v.IsNil() && v.CanSet() {
			v.Set(cleansed(v.Elem()))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				cleanse(v.Field(i))
			}
		}
	case reflect.Slice:
		if v.Type() == reflect.TypeFor[json.RawMessage]() {
			if v.CanSet() {
				v.SetBytes(cleansedJSON(v.Bytes()))
			}
			return
		}
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return
		}
		for i := range v.Len() {
			cleanse(v.Index(i))
		}
	case reflect.Array:
		for i := range v.Len() {
			cleanse(v.Index(i))
		}
	case reflect.Map:
		for _, key := range v.MapKeys() {
			value := cleansed(v.MapIndex(key))
			v.SetMapIndex(key, reflect.Value{})
			v.SetMapIndex(cleansed(key), value)
		}
	}
}

// cleansed is a copy of a value whose texts are graphic.
func cleansed(v reflect.Value) reflect.Value {
	out := reflect.New(v.Type()).Elem()
	out.Set(v)
	cleanse(out)
	return out
}

// cleansedJSON makes the strings in JSON graphic, and leaves alone what isn't JSON.
func cleansedJSON(data []byte) []byte {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var v any
	if d.Decode(&v) != nil {
		return data
	}
	cleanse(reflect.ValueOf(&v))
	out, err := json.Marshal(v)
	if err != nil {
		return data
	}
	return out
}
