package peer

import "errors"

// The errors of this package. All are matched with errors.Is.
var (
	// ErrNotSent: the call did not leave this node, so it had no effect and may be
	// tried again, here or elsewhere.
	ErrNotSent = errors.New("call was not sent")
	// ErrUnknownOutcome: the call left this node and no answer came: it may have had
	// its effect, have none, or have it later.
	ErrUnknownOutcome = errors.New("outcome of the call is unknown")
	// ErrUnknownPeer: the node is not among those of SetPeers, or its address is not
	// known.
	ErrUnknownPeer = errors.New("peer is not known")
	// ErrRefused: one side refused the other by its Hello or its certificate. The text
	// says why.
	ErrRefused = errors.New("peer refused")
	// ErrFrame: a frame breaks the rules of frames. The text says which.
	ErrFrame = errors.New("invalid frame")
	// ErrTooLarge: the message is larger than Config.MaxFrameBytes; nothing was sent.
	ErrTooLarge = errors.New("message is too large")
	// ErrClosed: the Transport is closed.
	ErrClosed = errors.New("transport is closed")
)
