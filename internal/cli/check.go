package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tulle.dev/tulle/internal/control/api/client"
)

// checkAnswer is the result of every check, in the JSON shape of Linkerd's
// `check -o json`.
type checkAnswer struct {
	Success    bool            `json:"success"`
	Categories []checkCategory `json:"categories"`
}

type checkCategory struct {
	Name   string      `json:"categoryName"`
	Checks []checkItem `json:"checks"`
}

type checkItem struct {
	Description string        `json:"description"`
	Hint        string        `json:"hint,omitempty"`
	Error       string        `json:"error,omitempty"`
	Result      client.Result `json:"result"`
}

// categorize groups checks by category, in the order they came.
func categorize(report *client.CheckReport) *checkAnswer {
	answer := &checkAnswer{Success: true}
	at := map[string]int{}
	for _, c := range report.Checks {
		i, ok := at[c.Category]
		if !ok {
			i = len(answer.Categories)
			at[c.Category] = i
			answer.Categories = append(answer.Categories, checkCategory{Name: c.Category})
		}
		category := &answer.Categories[i]
		category.Checks = append(category.Checks, checkItem{Description: c.Description, Hint: c.Hint, Error: c.Error, Result: c.Result})
		if c.Result == client.Failure {
			answer.Success = false
		}
	}
	return answer
}

// checkInterval parts two looks of `check --wait`.
const checkInterval = time.Second

func (a *app) checkCommand() *cobra.Command {
	var output string
	var wait time.Duration
	c := &cobra.Command{
		Use:   "check",
		Short: "Look at every aspect of the mesh and say what is wrong and what to do",
		Long: `Looks at the control plane, its store, identities, proxies, services and objects.
Each line is one aspect: √ fine, ‼ a warning, × wrong, with the reason and a hint.

Exit codes: 0 when nothing is wrong (warnings are fine), 1 when something is wrong,
2 when it couldn't look, because no control plane answers.`,
		Example: `  tulle check
  tulle check --wait 1m          # until all is fine, or a minute has gone
  tulle check -o short           # only what is wrong
  tulle check -o json | jq .success`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkFormat(output, formatTable, formatShort, formatJSON); err != nil {
				return err
			}
			conn, err := a.connect()
			if err != nil {
				return err
			}
			answer, err := a.check(cmd.Context(), conn, wait)
			if err != nil {
				return err
			}
			if output == formatJSON {
				data, err := json.Marshal(answer)
				if err != nil {
					return err
				}
				if err := printData(a.Out, output, data); err != nil {
					return err
				}
			} else {
				a.printCheck(answer, output == formatShort)
			}
			if !answer.Success {
				return exit(ExitWrong)
			}
			return nil
		},
	}
	c.Flags().StringVarP(&output, "output", "o", "", "`FORMAT`: short or json")
	c.Flags().DurationVar(&wait, "wait", 0, "try again until nothing is wrong, at most this long")
	completeFormats(c, formatShort, formatJSON)
	return c
}

// check asks once, or until nothing is wrong or wait has gone.
func (a *app) check(ctx context.Context, conn *client.Client, wait time.Duration) (*checkAnswer, error) {
	deadline := a.now().Add(wait)
	for {
		asked, cancel := context.WithTimeout(ctx, a.timeout)
		report, err := conn.Check(asked)
		cancel()
		if err == nil {
			if answer := categorize(report); answer.Success || !a.now().Before(deadline) {
				return answer, nil
			}
		} else if !a.now().Before(deadline) {
			return nil, couldNotLook(advise(err))
		}
		select {
		case <-ctx.Done():
			return nil, couldNot("", "interrupted")
		case <-time.After(checkInterval):
		}
	}
}

// couldNotLook gives every failure to look the exit code 2.
func couldNotLook(err error) error {
	var f *failure
	if errors.As(err, &f) {
		return &failure{code: ExitCouldNot, err: f.err, hint: f.hint}
	}
	return err
}

func (a *app) printCheck(answer *checkAnswer, short bool) {
	for _, category := range answer.Categories {
		if short && !worthShowing(category) {
			continue
		}
		fmt.Fprintln(a.Out, a.paint.bold(category.Name))
		fmt.Fprintln(a.Out, strings.Repeat("-", len([]rune(category.Name))))
		for _, item := range category.Checks {
			if short && item.Result == client.Success {
				continue
			}
			fmt.Fprintf(a.Out, "%s %s\n", a.mark(item.Result), item.Description)
			if item.Error != "" {
				fmt.Fprintf(a.Out, "    %s\n", strings.ReplaceAll(item.Error, "\n", "\n    "))
			}
			if item.Hint != "" && item.Result != client.Success {
				fmt.Fprintf(a.Out, "    %s %s\n", a.paint.faint("hint:"), strings.ReplaceAll(item.Hint, "\n", "\n    "))
			}
		}
		fmt.Fprintln(a.Out)
	}
	result := a.mark(client.Success)
	if !answer.Success {
		result = a.mark(client.Failure)
	}
	fmt.Fprintf(a.Out, "Status check results are %s\n", result)
}

func worthShowing(category checkCategory) bool {
	for _, item := range category.Checks {
		if item.Result != client.Success {
			return true
		}
	}
	return false
}

func (a *app) mark(result client.Result) string {
	switch result {
	case client.Success:
		return a.paint.good("√")
	case client.Warning:
		return a.paint.warn("‼")
	}
	return a.paint.bad("×")
}
