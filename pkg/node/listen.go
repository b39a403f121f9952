package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"time"
)

// socketProbeTimeout bounds the attempt to connect to a unix socket that is already there.
const socketProbeTimeout = time.Second

// ErrAddressInUse refuses a unix socket on which another process listens.
var ErrAddressInUse = errors.New("address is in use")

// listen opens a listener for the address. A unix socket that nobody listens on is removed first; its file is readable
// and writable by its owner only.
func (a address) listen(ctx context.Context) (net.Listener, error) {
	if a.network == networkUnix {
		if err := removeStaleSocket(ctx, a.addr); err != nil {
			return nil, err
		}
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, a.network, a.addr)
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) {
			err = op.Err // the rest repeats the address
		}
		return nil, fmt.Errorf("listen on %s: %w", a, err)
	}
	if a.network == networkUnix && !strings.HasPrefix(a.addr, "@") {
		if err := os.Chmod(a.addr, 0o600); err != nil {
			_ = l.Close()
			return nil, fmt.Errorf("restrict socket: %w", err)
		}
	}
	return l, nil
}

// removeStaleSocket removes a socket that a dead process left behind. A file that is no socket is never removed.
func removeStaleSocket(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) || strings.HasPrefix(path, "@") {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at socket: %w", err)
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("listen on unix://%s: the file there is not a socket", path)
	}
	dialer := net.Dialer{Timeout: socketProbeTimeout}
	if conn, err := dialer.DialContext(ctx, networkUnix, path); err == nil {
		_ = conn.Close()
		return fmt.Errorf("listen on unix://%s: %w: another process listens there", path, ErrAddressInUse)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("remove stale socket: %w", err)
	}
	return nil
}
