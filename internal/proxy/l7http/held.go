package l7http

// Held adds what exchanges of the loop hold that they must give back.
func (w *Worker) Held(held map[string]int) {
	held["bytes of kept bodies"] += w.held
	held["bytes for peers that don't take them"] += w.env.Held()
	held["copies"] += w.mirrors
	held["bytes of copies in the making"] += w.making.cost
	held["questions to other programs"] += w.asks
	held["tunnels"] += len(w.passages)
	held["tokens"] += w.verifying.running + len(w.verifying.known)
}
