// Reads Compose files as `docker compose config` does, with the library it is made of, and prints the project as JSON.
// compose [-profile name] file...
package main

import (
	"context"
	"flag"
	"fmt"
	"os"

	"github.com/compose-spec/compose-go/v2/cli"
)

func main() {
	profile := flag.String("profile", "", "a profile to switch on")
	flag.Parse()
	if err := show(flag.Args(), *profile); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func show(files []string, profile string) error {
	options, err := cli.NewProjectOptions(files,
		cli.WithOsEnv,
		cli.WithProfiles([]string{profile}),
		cli.WithInterpolation(true),
		cli.WithResolvedPaths(true),
		cli.WithNormalization(true),
		cli.WithConsistency(true),
	)
	if err != nil {
		return err
	}
	project, err := options.LoadProject(context.Background())
	if err != nil {
		return err
	}
	text, err := project.MarshalJSON()
	if err != nil {
		return err
	}
	fmt.Println(string(text))
	return nil
}
