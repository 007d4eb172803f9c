package deploy

import "github.com/fairway-cd/fairway/internal/mark"

// Present makes a difference that somebody else has found fit to be shown: as
// those of Compare are, without what nobody wants to see and without the values
// of Secrets.
func Present(d *Difference) { present(d, mark.Ignored{}) }
