package controlplane

import (
	"fmt"
	"log/slog"
	"os"

	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/client-go/rest"
	logsapi "k8s.io/component-base/logs/api/v1"
	"k8s.io/klog/v2"
)

// applyLogging settles klog for all components: once, as it refuses a change,
// and after the feature gates.
func applyLogging(verbosity int) error {
	// The components use deprecated APIs on purpose; upstream's main functions
	// silence these warnings, too.
	rest.SetDefaultWarningHandler(rest.NoWarnings{})
	config := logsapi.NewLoggingConfiguration()
	config.Verbosity = logsapi.VerbosityLevel(max(verbosity, 0))
	if err := logsapi.ValidateAndApply(config, utilfeature.DefaultFeatureGate); err != nil {
		return fmt.Errorf("setting up logging: %w", err)
	}
	if verbosity < 0 {
		// klog has no level at which it is silent about what goes well.
		klog.SetSlogLogger(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})))
	}
	return nil
}
