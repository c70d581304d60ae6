package dial

import "tulle.dev/tulle/internal/proxy/meter"

// Direction is how the cluster's traffic is counted.
func (c *Cluster) Direction() meter.Direction { return c.direction }
