package controller

import (
	"fmt"
	"time"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/internal/deploy"
)

// annotationApproved is how people confirm what waits for that (Prune=confirm,
// Delete=confirm): its value is when they did.
const annotationApproved = "argocd.argoproj.io/deletion-approved"

// approved says whether the Application's annotation confirms what was asked
// for at that time. As in Argo CD it does so only if it is not older: what was
// confirmed once is not confirmed for ever.
func approved(app *argo.Application, asked time.Time) bool {
	at, err := time.Parse(time.RFC3339, app.Annotations[annotationApproved])
	return err == nil && !at.Before(asked.Truncate(time.Second))
}

// unconfirmed says what is waited for, and why an annotation that is there
// does not do.
func (a *applicationRun) unconfirmed(err *deploy.UnconfirmedError, asked time.Time) string {
	msg := explain(err)
	if v := a.app.Annotations[annotationApproved]; v != "" {
		const longest = 64
		msg += fmt.Sprintf("; the annotation that is there, %.*q, is not a time at or after %s", longest, v, asked.UTC().Format(time.RFC3339))
	}
	return msg
}
