package registry

import (
	"context"
	"io"
	"log/slog"

	"github.com/sirupsen/logrus"
)

// RouteLogs sends what distribution logs to logger, warnings and worse only.
// It changes the process: distribution knows no logger but logrus's standard
// one. Package app calls it once, before New.
func RouteLogs(logger *slog.Logger) {
	std := logrus.StandardLogger()
	std.SetOutput(io.Discard)
	std.SetLevel(logrus.ErrorLevel)
	std.ReplaceHooks(logrus.LevelHooks{})
	std.AddHook(slogHook{logger})
}

type slogHook struct{ logger *slog.Logger }

func (slogHook) Levels() []logrus.Level { return logrus.AllLevels }

// Fire passes an entry on without its fields, which hold whole requests.
// Errors are what a client did wrong as often as what we did, so they are
// debug messages here: what we did wrong is logged by ServeHTTP.
func (h slogHook) Fire(e *logrus.Entry) error {
	ctx := e.Context
	if ctx == nil {
		ctx = context.Background()
	}
	h.logger.DebugContext(ctx, "distribution", "level", e.Level.String(), "message", e.Message)
	return nil
}
