package namespace

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

const resolvConf = "/etc/resolv.conf"

// nameServices are sockets through which a C library asks a daemon of the host
// for names instead of DNS: closed inside, so that DNS is asked.
var nameServices = []string{
	"/run/systemd/resolve/io.systemd.Resolve",
	"/run/nscd/socket",
	"/var/run/nscd/socket",
}

// namesThroughDNS makes /etc/resolv.conf say resolv and hides what would go
// around it. The mount namespace is the helper's own.
func namesThroughDNS(resolv string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("keep mounts to the namespace: %w", err)
	}
	for _, socket := range nameServices {
		if info, err := os.Stat(socket); err == nil && info.Mode()&os.ModeSocket != 0 {
			if err := unix.Mount("/dev/null", socket, "", unix.MS_BIND, ""); err != nil {
				return fmt.Errorf("hide %s: %w", socket, err)
			}
		}
	}
	if _, err := os.Stat(resolvConf); errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s doesn't exist", resolvConf)
	}
	// The file lives in memory and goes with the namespace.
	dir, err := os.MkdirTemp("", "tulle-namespace-")
	if err != nil {
		return err
	}
	defer os.Remove(dir)
	if err := unix.Mount("tulle", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "size=64k,mode=0755"); err != nil {
		return fmt.Errorf("mount tmpfs: %w", err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	file := dir + "/resolv.conf"
	if err := os.WriteFile(file, []byte(resolv), 0o644); err != nil {
		return err
	}
	if err := unix.Mount(file, resolvConf, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("replace %s: %w", resolvConf, err)
	}
	return nil
}
