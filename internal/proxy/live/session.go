package live

import (
	"context"
	"errors"
	"fmt"
	"io"

	"tulle.dev/tulle/internal/identity"
	"tulle.dev/tulle/internal/proxy/rpc"
	"tulle.dev/tulle/internal/wire/control"
)

// maxKeysPerMessage bounds the keys of one Subscribe.
const maxKeysPerMessage = 4096

// session is one conversation.
func (l *Live) session(ctx context.Context) (err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer func() {
		if errors.Is(context.Cause(ctx), errAgain) {
			err = errAgain
		}
	}()
	svid := l.credentials.SVID()
	conn, err := l.connect(ctx, l.credentials.ClientConfig(identity.ControlPlane(svid.ID.TrustDomain), "h2"))
	if err != nil {
		return err
	}
	defer conn.Close()
	stream, err := conn.Stream(ctx, control.MethodDiscover)
	if err != nil {
		return err
	}
	l.mu.Lock()
	l.endSession = cancel
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.endSession = nil
	}()
	told, err := l.greet(ctx, stream)
	if err != nil {
		return err
	}
	l.setConnected(true, nil)
	sender := make(chan struct{})
	go func() {
		defer close(sender)
		l.send(ctx, stream, told)
	}()
	err = l.receive(ctx, stream)
	cancel(nil)
	<-sender
	return err
}

// greet says who this is, what it holds, and what it wants to know.
func (l *Live) greet(ctx context.Context, stream *rpc.Stream) (control.Status, error) {
	hello := l.config.Hello
	hello.Shares = true
	l.mu.Lock()
	l.understood = false
	hello.Registrations = l.registrations
	hello.Role = l.role
	for key, version := range l.own {
		hello.Held = append(hello.Held, control.Held{Key: key, Version: version})
	}
	keys := make([]string, 0, len(l.interest))
	for key, i := range l.interest {
		keys = append(keys, key)
		if i.answered {
			hello.Held = append(hello.Held, control.Held{Key: key, Version: i.version})
		}
	}
	l.added, l.removed = nil, nil
	status := l.status
	greets := l.takeGreetings(true)
	l.mu.Unlock()
	err := l.say(ctx, stream, &control.ProxyMessage{Hello: &hello})
	if err == nil {
		err = l.subscribe(ctx, stream, keys)
	}
	if err == nil && status != (control.Status{}) { // there is something to say
		err = l.say(ctx, stream, &control.ProxyMessage{Status: &status})
	}
	if err == nil {
		err = l.sayGreetings(ctx, stream, greets)
	}
	return status, err
}

func (l *Live) say(ctx context.Context, stream *rpc.Stream, m *control.ProxyMessage) error {
	return stream.Send(ctx, control.EncodeProxyMessage(m))
}

func (l *Live) subscribe(ctx context.Context, stream *rpc.Stream, keys []string) error {
	for len(keys) > 0 {
		n := min(len(keys), maxKeysPerMessage)
		if err := l.say(ctx, stream, &control.ProxyMessage{Subscribe: &control.Subscribe{Add: keys[:n]}}); err != nil {
			return err
		}
		keys = keys[n:]
	}
	return nil
}

// send tells what changed on this side, since told, until the session ends.
func (l *Live) send(ctx context.Context, stream *rpc.Stream, told control.Status) {
	var d demander
	defer d.stop()
	for {
		d.start(l)
		select {
		case <-ctx.Done():
			return
		case now := <-d.tick:
			if d.tell(ctx, l, stream, now) != nil {
				return
			}
			continue
		case <-l.news:
		}
		l.mu.Lock()
		removed, candidates := l.removed, l.added
		l.removed, l.added = nil, nil
		var added []string
		for _, key := range candidates {
			if l.interest[key] != nil {
				added = append(added, key)
			}
		}
		status := l.status
		greets := l.takeGreetings(false)
		l.mu.Unlock()
		// What was dropped and is wanted again must be resent: remove first.
		var err error
		for len(removed) > 0 && err == nil {
			n := min(len(removed), maxKeysPerMessage)
			err = l.say(ctx, stream, &control.ProxyMessage{Subscribe: &control.Subscribe{Remove: removed[:n]}})
			removed = removed[n:]
		}
		if err == nil {
			err = l.subscribe(ctx, stream, added)
		}
		if err == nil && status != told {
			told = status
			err = l.say(ctx, stream, &control.ProxyMessage{Status: &status})
		}
		if err == nil {
			err = l.sayGreetings(ctx, stream, greets)
		}
		if err != nil {
			return // the receiver sees the stream's end; greet says it all again
		}
	}
}

// receive takes what the control plane says until the session ends.
func (l *Live) receive(ctx context.Context, stream *rpc.Stream) error {
	for {
		b, err := stream.Receive()
		if err == io.EOF {
			return errEnded
		}
		if err != nil {
			return err
		}
		m, err := control.DecodeControlMessage(b)
		if err != nil {
			// Without its nonce it can't be answered; the next conversation
			// begins from what is held.
			return fmt.Errorf("the control plane sent a message that can't be read: %w", err)
		}
		if m.Refused == nil {
			l.setSteady()
		}
		switch {
		case m.Update != nil:
			if err := l.take(ctx, stream, m.Update); err != nil {
				return err
			}
		case m.Shares != nil:
			l.takeShares(m.Shares)
		case m.Drained:
			l.mu.Lock()
			if l.status.Draining {
				select {
				case <-l.drained:
				default:
					close(l.drained)
				}
			}
			l.mu.Unlock()
		case m.Refused != nil:
			return refusedError{m.Refused.Reason}
		}
	}
}

// take puts an update into force and answers it.
func (l *Live) take(ctx context.Context, stream *rpc.Stream, u *control.Update) error {
	ack := &control.Ack{Nonce: u.Nonce}
	if err := l.update(u); err != nil {
		ack.Error = err.Error()
		l.log.Error("rejected an update; the last good state stays in force", "version", u.Version, "error", err)
	}
	l.mu.Lock()
	l.link.Rejected = ack.Error
	l.mu.Unlock()
	return l.say(ctx, stream, &control.ProxyMessage{Ack: ack})
}
