// Command shop is the sample application: each service is a sub-command.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"tulle.dev/tulle/examples/shop/cart"
	"tulle.dev/tulle/examples/shop/catalogue"
	"tulle.dev/tulle/examples/shop/load"
	"tulle.dev/tulle/examples/shop/payment"
	"tulle.dev/tulle/examples/shop/recommendations"
	"tulle.dev/tulle/examples/shop/service"
	"tulle.dev/tulle/examples/shop/store"
	"tulle.dev/tulle/examples/shop/web"
)

const usage = `usage: shop SERVICE [flags]

  web               the page customers see
  cart              keeps their carts in the store
  catalogue         knows what is sold
  payment           takes the money
  recommendations   says what goes with what (-version v1, or the flaky v2)
  store             redis-server when it is installed, else a small one of our own
  load              makes customers come

Each takes -h. A service is called at $NAME_SERVICE_HOST:$NAME_SERVICE_PORT,
or by its name when these aren't set.
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "shop:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		fmt.Fprint(os.Stderr, usage)
		return errors.New("which service?")
	}
	name := args[0]
	flags := flag.NewFlagSet("shop "+name, flag.ContinueOnError)
	listen := flags.String("listen", "127.0.0.1:8080", "`address` to listen on")
	debug := flags.Bool("debug", false, "log what goes wrong, request by request")
	parse := func() (*slog.Logger, error) {
		level := slog.LevelInfo
		if err := flags.Parse(args[1:]); err != nil {
			return nil, err
		}
		if flags.NArg() > 0 {
			return nil, fmt.Errorf("%s takes no argument %q", name, flags.Arg(0))
		}
		if *debug {
			level = slog.LevelDebug
		}
		return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level})).With("service", name), nil
	}
	switch name {
	case "web":
		log, err := parse()
		if err != nil {
			return err
		}
		return service.Serve(ctx, log, *listen, web.Handler(log))
	case "catalogue":
		log, err := parse()
		if err != nil {
			return err
		}
		return service.Serve(ctx, log, *listen, catalogue.Handler())
	case "payment":
		log, err := parse()
		if err != nil {
			return err
		}
		return service.Serve(ctx, log, *listen, payment.Handler())
	case "cart":
		at := flags.String("store", service.Address("store", "6379"), "`address` of the store")
		log, err := parse()
		if err != nil {
			return err
		}
		c := store.Dial(*at)
		defer c.Close()
		return service.Serve(ctx, log, *listen, cart.Handler(c))
	case "recommendations":
		c := recommendations.Config{Version: "v1"}
		version := flags.String("version", "v1", "v1, or v2 which is flaky")
		errs := flags.Float64("errors", recommendations.Flaky.Errors, "`share` of v2's answers that are errors")
		slow := flags.Float64("slow", recommendations.Flaky.Slow, "`share` of v2's answers that are slow")
		log, err := parse()
		if err != nil {
			return err
		}
		if c.Version = *version; c.Version == recommendations.Flaky.Version {
			c = recommendations.Flaky
			c.Errors, c.Slow = *errs, *slow
		}
		h, err := recommendations.Handler(c)
		if err != nil {
			return err
		}
		return service.Serve(ctx, log, *listen, h)
	case "store":
		own := flags.Bool("own", false, "don't look for redis-server")
		log, err := parse()
		if err != nil {
			return err
		}
		return keep(ctx, log, *listen, *own)
	case "load":
		c := load.Config{Every: 10 * time.Second}
		flags.StringVar(&c.Target, "target", service.URL("web"), "the shop's `address`")
		flags.Float64Var(&c.Rate, "rate", 6, "requests a second; the shop makes about five of each")
		flags.IntVar(&c.Customers, "customers", 12, "how many carts")
		log, err := parse()
		if err != nil {
			return err
		}
		return load.Run(ctx, log, c)
	case "help", "-h", "-help", "--help":
		fmt.Print(usage)
		return nil
	}
	fmt.Fprint(os.Stderr, usage)
	return fmt.Errorf("there is no service %q", name)
}

// keep becomes redis-server when there is one, and else serves a small store.
func keep(ctx context.Context, log *slog.Logger, listen string, own bool) error {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return err
	}
	if redis, err := exec.LookPath("redis-server"); err == nil && !own {
		log.Info("a real Redis", "program", redis, "address", listen)
		// Nothing is kept on disk: the carts end with the demo.
		return syscall.Exec(redis, []string{"redis-server", "--bind", host, "--port", port, "--save", "", "--appendonly", "no",
			"--daemonize", "no", "--loglevel", "warning", "--dir", os.TempDir()}, os.Environ())
	}
	ln, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	log.Info("no Redis found: the shop's own store", "address", ln.Addr().String())
	return new(store.Server).Serve(ctx, ln)
}
