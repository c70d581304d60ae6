package web

import (
	"fmt"
	"html/template"

	"tulle.dev/tulle/examples/shop/catalogue"
)

// weaves draws one repeat of each weave, 24 by 24, in the colours light (%[1]s)
// and dark (%[2]s).
var weaves = map[string]string{
	"net":    `<path d="M0 6 12 0 24 6V18L12 24 0 18ZM12 0V0M12 24V24M0 6V18" fill="none" stroke="%[1]s" stroke-width="1.2"/><circle cx="12" cy="0" r="1.6" fill="%[1]s"/><circle cx="12" cy="24" r="1.6" fill="%[1]s"/>`,
	"wave":   `<path d="M0 6q6-6 12 0t12 0M0 14q6-6 12 0t12 0M0 22q6-6 12 0t12 0" fill="none" stroke="%[1]s" stroke-width="1.6" opacity=".8"/>`,
	"plain":  `<path d="M0 3H10M14 3H24M0 15H10M14 15H24M3 6V12M15 6V12M9 18V24M21 18V24" stroke="%[1]s" stroke-width="3" opacity=".55"/><path d="M0 9H24M0 21H24" stroke="%[2]s" stroke-width="1" opacity=".5"/>`,
	"waffle": `<rect x="3" y="3" width="18" height="18" rx="3" fill="%[2]s" opacity=".45"/><rect x="7" y="7" width="10" height="10" rx="2" fill="%[2]s" opacity=".5"/><path d="M0 0H24M0 0V24" stroke="%[1]s" stroke-width="3" opacity=".7"/>`,
	"twill":  `<path d="M-6 6 6-6M-6 18 18-6M-6 30 30-6M6 30 30 6M18 30 30 18" stroke="%[1]s" stroke-width="3.4" opacity=".6"/><path d="M-6 12 12-6M-6 24 24-6M0 30 30 0M12 30 30 12" stroke="%[2]s" stroke-width="1.4" opacity=".6"/>`,
	"check":  `<rect width="12" height="24" fill="%[1]s" opacity=".45"/><rect width="24" height="12" fill="%[1]s" opacity=".45"/>`,
	"stripe": `<rect y="0" width="24" height="5" fill="%[1]s" opacity=".8"/><rect y="9" width="24" height="2" fill="%[1]s" opacity=".6"/><rect y="14" width="24" height="6" fill="%[2]s" opacity=".6"/>`,
	"pile":   `<path d="M3 0V9M9 6V15M15 0V9M21 6V15M3 12V21M9 18V24M15 12V21M21 18V24M9 0V3M21 0V3" stroke="%[2]s" stroke-width="4" stroke-linecap="round" opacity=".4"/><path d="M6 3V10M18 9V18M6 15V22M12 8V16" stroke="%[1]s" stroke-width="1.6" stroke-linecap="round" opacity=".5"/>`,
}

// picture draws a product as a piece of cloth with a fold.
func picture(p catalogue.Product) template.HTML {
	light := fmt.Sprintf("hsl(%d 70%% 92%%)", p.Hue)
	dark := fmt.Sprintf("hsl(%d 45%% 28%%)", p.Hue)
	repeat := fmt.Sprintf(weaves[p.Weave]+"%[3]s", light, dark, "")
	return template.HTML(fmt.Sprintf(`<svg class="cloth" viewBox="0 0 240 180" role="img" aria-label="%[1]s" preserveAspectRatio="xMidYMid slice">`+
		`<defs><pattern id="w-%[2]s" width="24" height="24" patternUnits="userSpaceOnUse" patternTransform="rotate(8)">%[3]s</pattern>`+
		`<linearGradient id="g-%[2]s" x1="0" y1="0" x2="1" y2="1"><stop offset="0" stop-color="hsl(%[4]d 55%% 66%%)"/><stop offset="1" stop-color="hsl(%[4]d 50%% 46%%)"/></linearGradient>`+
		`<linearGradient id="f-%[2]s" x1="0" y1="0" x2="1" y2="0"><stop offset="0" stop-color="#000" stop-opacity=".22"/><stop offset=".5" stop-color="#000" stop-opacity="0"/><stop offset="1" stop-color="#fff" stop-opacity=".18"/></linearGradient></defs>`+
		`<rect width="240" height="180" fill="url(#g-%[2]s)"/><rect width="240" height="180" fill="url(#w-%[2]s)"/>`+
		`<path d="M150 0C130 60 190 110 160 180H240V0Z" fill="url(#f-%[2]s)"/><path d="M40 0C60 50 20 120 50 180H0V0Z" fill="url(#f-%[2]s)" opacity=".7"/></svg>`,
		template.HTMLEscapeString(p.Name), template.HTMLEscapeString(p.ID), repeat, p.Hue))
}
