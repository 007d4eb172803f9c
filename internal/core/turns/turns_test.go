package turns_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/fairway-cd/fairway/internal/core/turns"
)

func TestOneUserLeavesTurnsToOthers(t *testing.T) {
	all := turns.New("requests", 4, 2)
	take := func(user string) (func(), error) { return all.Take(t.Context(), user, 0) }
	must := func(user string) func() {
		t.Helper()
		release, err := take(user)
		if err != nil {
			t.Fatal(err)
		}
		return release
	}
	first := must("ada")
	must("ada")
	var busy *turns.BusyError
	if _, err := take("ada"); !errors.As(err, &busy) || !busy.Own || busy.HTTPStatus() != 429 || busy.After() <= 0 {
		t.Errorf("beyond the own share: %v", err)
	}
	must("bob")
	other := must("bob")
	if _, err := take("eve"); !errors.As(err, &busy) || busy.Own || busy.HTTPStatus() != 503 {
		t.Errorf("beyond all: %v", err)
	}
	other()
	other() // ends one turn, not two
	must("eve")
	if _, err := take("eve"); err == nil {
		t.Error("a turn that was ended twice counts twice")
	}
	first()
	must("ada")
}

// Who waits is served when a turn ends, and who leaves takes none.
func TestWaitingForATurn(t *testing.T) {
	all := turns.New("requests", 1, 1)
	release, err := all.Take(t.Context(), "ada", 0)
	if err != nil {
		t.Fatal(err)
	}
	gone, leave := context.WithCancel(t.Context())
	left := make(chan error)
	go func() {
		_, err := all.Take(gone, "bob", time.Hour)
		left <- err
	}()
	leave()
	if err := <-left; err == nil {
		t.Error("who left was given a turn")
	}
	served := make(chan error)
	go func() {
		next, err := all.Take(t.Context(), "bob", time.Hour)
		if err == nil {
			next()
		}
		served <- err
	}()
	release()
	if err := <-served; err != nil {
		t.Error(err)
	}
}
