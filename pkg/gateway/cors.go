package gateway

import (
	"net/http"
	"slices"
	"strings"
)

// corsMaxAge is for how long a browser remembers the answer to a preflight, in
// seconds.
const corsMaxAge = "600"

// allowOrigin tells a browser whether a page of another origin may read the answer.
// It answers preflights itself and then reports true. Without Config.Origins it does
// nothing: browsers then refuse such pages, since calls want a Content-Type that
// needs a preflight.
func (g *Gateway) allowOrigin(w http.ResponseWriter, r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if len(g.cfg.Origins) == 0 || origin == "" {
		return false
	}
	h := w.Header()
	h.Add("Vary", "Origin")
	if !g.allowed(origin) {
		return false
	}
	h.Set("Access-Control-Allow-Origin", origin)
	if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") == "" {
		return false
	}
	h.Set("Access-Control-Allow-Methods", http.MethodPost)
	h.Set("Access-Control-Allow-Headers", "Content-Type")
	h.Set("Access-Control-Max-Age", corsMaxAge)
	w.WriteHeader(http.StatusNoContent)
	return true
}

func (g *Gateway) allowed(origin string) bool {
	return slices.ContainsFunc(g.cfg.Origins, func(o string) bool {
		return o == AnyOrigin || strings.EqualFold(o, origin)
	})
}
