// Command kstatus reads objects as JSON, one after another, and prints for each what kstatus makes
// of it: {"status": "...", "message": "..."}.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
)

type verdict struct {
	Status  string `json:"status"`
	Message string `json:"message"`
}

func main() {
	if err := judge(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "kstatus:", err)
		os.Exit(1)
	}
}

func judge(input io.Reader, output io.Writer) error {
	objects, verdicts := json.NewDecoder(input), json.NewEncoder(output)
	for {
		var text json.RawMessage
		if err := objects.Decode(&text); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		// Not by encoding/json: kstatus wants whole numbers as int64.
		object := &unstructured.Unstructured{}
		if err := object.UnmarshalJSON(text); err != nil {
			return err
		}
		found, err := status.Compute(object)
		if err != nil {
			return err
		}
		if err := verdicts.Encode(verdict{found.Status.String(), found.Message}); err != nil {
			return err
		}
	}
}
