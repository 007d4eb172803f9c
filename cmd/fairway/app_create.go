package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
)

// appCreateFlags have the names that "argocd app create" gives them.
type appCreateFlags struct {
	file, project                               string
	upsert, finalizer                           bool
	labels, annotations                         []string
	repo, path, chart, revision                 string
	destServer, destName, destNamespace         string
	syncPolicy                                  string
	autoPrune, selfHeal, allowEmpty             bool
	syncOptions                                 []string
	retryLimit                                  int64
	values, helmSet, helmSetString, helmSetFile []string
	valuesLiteral, releaseName                  string
	namePrefix, nameSuffix                      string
	kustomizeImages, kustomizeReplicas          []string
	directoryRecurse                            bool
	directoryInclude, directoryExclude          string
	historyLimit                                int64
}

func newAppCreateCommand(o *appOptions) *cobra.Command {
	f := &appCreateFlags{}
	cmd := &cobra.Command{
		Use:   "create NAME",
		Short: "Create an Application",
		Example: `  fairway app create web-app --repo https://github.com/myorg/gitops-repo --path apps/web-app \
    --dest-server https://kubernetes.default.svc --dest-namespace production --sync-policy automated
  fairway app create -f application.yaml`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			name := ""
			if len(args) > 0 {
				name = args[0]
			}
			return runAppCreate(cmd.Context(), o, f, name, cmd.InOrStdin(), cmd.OutOrStdout())
		},
	}
	f.add(cmd)
	return cmd
}

func (f *appCreateFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVarP(&f.file, "file", "f", "", "a manifest to create ('-' is standard input)")
	flags.BoolVar(&f.upsert, "upsert", false, "replace the spec of an Application that is there")
	flags.BoolVar(&f.finalizer, "set-finalizer", false, "delete what it deployed when the Application is deleted")
	flags.StringArrayVarP(&f.labels, "label", "l", nil, "label KEY=VALUE; can be repeated")
	flags.StringArrayVar(&f.annotations, "annotations", nil, "annotation KEY=VALUE; can be repeated")
	flags.StringVar(&f.project, "project", argo.DefaultProject, "project")
	flags.StringVar(&f.repo, "repo", "", "URL of the repository")
	flags.StringVar(&f.path, "path", "", "path in the repository")
	flags.StringVar(&f.chart, "helm-chart", "", "name of a chart, for a Helm repository")
	flags.StringVar(&f.revision, "revision", "", "branch, tag, commit or range of versions (default HEAD)")
	flags.StringVar(&f.destServer, "dest-server", "", "cluster, by URL ("+argo.InClusterServer+")")
	flags.StringVar(&f.destName, "dest-name", "", "cluster, by name ("+argo.InClusterName+")")
	flags.StringVar(&f.destNamespace, "dest-namespace", "", "namespace of objects that name none")
	flags.StringVar(&f.syncPolicy, "sync-policy", "", "automated (auto), or manual (none)")
	flags.BoolVar(&f.autoPrune, "auto-prune", false, "remove what is no longer in the source, when syncing automatically")
	flags.BoolVar(&f.selfHeal, "self-heal", false, "undo changes in the cluster, when syncing automatically")
	flags.BoolVar(&f.allowEmpty, "allow-empty", false, "let a source without objects remove everything, when syncing automatically")
	flags.StringArrayVar(&f.syncOptions, "sync-option", nil, "sync option NAME=VALUE; can be repeated")
	flags.Int64Var(&f.retryLimit, "sync-retry-limit", 0, "how often to try a failed sync again; negative is without end")
	flags.StringArrayVar(&f.values, "values", nil, "Helm value file; can be repeated")
	flags.StringVar(&f.valuesLiteral, "values-literal-file", "", "local file whose content are Helm values")
	flags.StringVar(&f.releaseName, "release-name", "", "Helm release name")
	flags.StringArrayVar(&f.helmSet, "helm-set", nil, "Helm parameter KEY=VALUE; can be repeated")
	flags.StringArrayVar(&f.helmSetString, "helm-set-string", nil, "Helm string parameter KEY=VALUE; can be repeated")
	flags.StringArrayVar(&f.helmSetFile, "helm-set-file", nil, "Helm parameter KEY=PATH; can be repeated")
	flags.StringVar(&f.namePrefix, "nameprefix", "", "kustomize name prefix")
	flags.StringVar(&f.nameSuffix, "namesuffix", "", "kustomize name suffix")
	flags.StringArrayVar(&f.kustomizeImages, "kustomize-image", nil, "kustomize image [NAME=]NEWNAME[:TAG|@DIGEST]; can be repeated")
	flags.StringArrayVar(&f.kustomizeReplicas, "kustomize-replica", nil, "kustomize replicas NAME=COUNT; can be repeated")
	flags.BoolVar(&f.directoryRecurse, "directory-recurse", false, "take the manifests of directories below")
	flags.StringVar(&f.directoryInclude, "directory-include", "", "glob of the manifests to take")
	flags.StringVar(&f.directoryExclude, "directory-exclude", "", "glob of the manifests to leave out")
	flags.Int64Var(&f.historyLimit, "revision-history-limit", 10, "how many entries the history keeps")
}

func runAppCreate(ctx context.Context, o *appOptions, f *appCreateFlags, name string, in io.Reader, out io.Writer) error {
	app, err := f.application(o, name, in)
	if err != nil {
		return err
	}
	c, err := o.client()
	if err != nil {
		return err
	}
	err = c.Create(ctx, app)
	switch {
	case err == nil:
		fmt.Fprintf(out, "application '%s' created\n", app.Name)
		return nil
	case apierrors.IsAlreadyExists(err):
		return replaceApplication(ctx, c, f, app, out)
	case apierrors.IsNotFound(err):
		return withHint(fmt.Errorf("creating application %s: namespace %s is not there: %w", app.Name, app.Namespace, err), "create the namespace, or start the server with 'fairway up'")
	}
	return fmt.Errorf("creating application %s: %w", app.Name, err)
}

// replaceApplication does nothing where the Application is as it should be,
// and changes it only where that is allowed.
func replaceApplication(ctx context.Context, c client.Client, f *appCreateFlags, app *argo.Application, out io.Writer) error {
	live := &argo.Application{}
	if err := c.Get(ctx, client.ObjectKeyFromObject(app), live); err != nil {
		return fmt.Errorf("reading application %s: %w", app.Name, err)
	}
	was, err := json.Marshal(live.Spec)
	if err != nil {
		return err
	}
	wanted, err := json.Marshal(app.Spec)
	if err != nil {
		return err
	}
	if string(was) == string(wanted) {
		fmt.Fprintf(out, "application '%s' unchanged\n", app.Name)
		return nil
	}
	if !f.upsert {
		return withHint(fmt.Errorf("application %s is there with another spec", app.Name), "replace its spec with --upsert")
	}
	before := live.DeepCopy()
	live.Spec = app.Spec
	if err := c.Patch(ctx, live, client.MergeFrom(before)); err != nil {
		return fmt.Errorf("replacing application %s: %w", app.Name, err)
	}
	fmt.Fprintf(out, "application '%s' updated\n", app.Name)
	return nil
}

// application is what the flags, and the file, ask for.
func (f *appCreateFlags) application(o *appOptions, name string, in io.Reader) (*argo.Application, error) {
	app := &argo.Application{}
	if f.file != "" {
		if err := readManifest(f.file, in, app); err != nil {
			return nil, err
		}
	}
	if name != "" {
		app.Name = name
	}
	if namespace, short, ok := strings.Cut(app.Name, "/"); ok {
		app.Namespace, app.Name = namespace, short
	}
	if app.Namespace == "" || o.namespace != "" {
		app.Namespace = o.appNamespace()
	}
	if app.Name == "" {
		return nil, usage("an application needs a name")
	}
	if f.file == "" {
		if err := f.spec(app); err != nil {
			return nil, err
		}
	}
	if f.finalizer {
		app.Finalizers = append(app.Finalizers, argo.Finalizer)
	}
	var err error
	if app.Labels, err = pairs("--label", f.labels, app.Labels); err != nil {
		return nil, err
	}
	app.Annotations, err = pairs("--annotations", f.annotations, app.Annotations)
	return app, err
}

func readManifest(file string, in io.Reader, into any) error {
	var data []byte
	var err error
	if file == "-" {
		data, err = io.ReadAll(in)
	} else {
		data, err = os.ReadFile(file)
	}
	if err != nil {
		return fmt.Errorf("reading the manifest: %w", err)
	}
	if err := yaml.UnmarshalStrict(data, into); err != nil {
		return fmt.Errorf("reading the manifest %s: %w", file, err)
	}
	return nil
}

func (f *appCreateFlags) spec(app *argo.Application) error {
	if f.repo == "" {
		return usage("--repo is required")
	}
	if f.path == "" && f.chart == "" {
		return usage("--path or --helm-chart is required")
	}
	if f.destServer == "" && f.destName == "" {
		f.destServer = argo.InClusterServer
	}
	source := &argo.ApplicationSource{RepoURL: f.repo, Path: f.path, Chart: f.chart, TargetRevision: f.revision}
	var err error
	if source.Helm, err = f.helm(); err != nil {
		return err
	}
	if source.Kustomize, err = f.kustomize(); err != nil {
		return err
	}
	if d := (argo.SourceDirectory{Recurse: f.directoryRecurse, Include: f.directoryInclude, Exclude: f.directoryExclude}); d != (argo.SourceDirectory{}) {
		source.Directory = &d
	}
	app.Spec = argo.ApplicationSpec{
		Project: f.project, Source: source,
		Destination: argo.ApplicationDestination{Server: f.destServer, Name: f.destName, Namespace: f.destNamespace},
	}
	if f.historyLimit != 10 {
		app.Spec.RevisionHistoryLimit = &f.historyLimit
	}
	app.Spec.SyncPolicy, err = f.policy()
	return err
}

func (f *appCreateFlags) policy() (*argo.SyncPolicy, error) {
	p := &argo.SyncPolicy{SyncOptions: f.syncOptions}
	switch f.syncPolicy {
	case "automated", "auto":
		p.Automated = &argo.SyncPolicyAutomated{Prune: f.autoPrune, SelfHeal: f.selfHeal, AllowEmpty: f.allowEmpty}
	case "", "none", "manual":
		if f.autoPrune || f.selfHeal || f.allowEmpty {
			return nil, usage("--auto-prune, --self-heal and --allow-empty need --sync-policy automated")
		}
	default:
		return nil, usage("--sync-policy %q: want automated or manual", f.syncPolicy)
	}
	if f.retryLimit != 0 {
		p.Retry = &argo.RetryStrategy{Limit: f.retryLimit}
	}
	if p.Automated == nil && p.Retry == nil && len(p.SyncOptions) == 0 {
		return nil, nil
	}
	return p, nil
}

func (f *appCreateFlags) helm() (*argo.SourceHelm, error) {
	h := &argo.SourceHelm{ValueFiles: f.values, ReleaseName: f.releaseName}
	for _, list := range []struct {
		flag   string
		pairs  []string
		string bool
	}{{"--helm-set", f.helmSet, false}, {"--helm-set-string", f.helmSetString, true}} {
		for _, pair := range list.pairs {
			name, value, ok := strings.Cut(pair, "=")
			if !ok {
				return nil, usage("%s %q: want KEY=VALUE", list.flag, pair)
			}
			h.Parameters = append(h.Parameters, argo.HelmParameter{Name: name, Value: value, ForceString: list.string})
		}
	}
	for _, pair := range f.helmSetFile {
		name, path, ok := strings.Cut(pair, "=")
		if !ok {
			return nil, usage("--helm-set-file %q: want KEY=PATH", pair)
		}
		h.FileParameters = append(h.FileParameters, argo.HelmFileParameter{Name: name, Path: path})
	}
	if f.valuesLiteral != "" {
		data, err := os.ReadFile(f.valuesLiteral)
		if err != nil {
			return nil, fmt.Errorf("reading --values-literal-file: %w", err)
		}
		object, err := yaml.YAMLToJSON(data)
		if err != nil {
			return nil, fmt.Errorf("reading --values-literal-file: %w", err)
		}
		h.ValuesObject = &runtime.RawExtension{Raw: object}
	}
	if len(h.ValueFiles)+len(h.Parameters)+len(h.FileParameters) == 0 && h.ReleaseName == "" && h.ValuesObject == nil {
		return nil, nil
	}
	return h, nil
}

func (f *appCreateFlags) kustomize() (*argo.SourceKustomize, error) {
	k := &argo.SourceKustomize{NamePrefix: f.namePrefix, NameSuffix: f.nameSuffix, Images: f.kustomizeImages}
	for _, pair := range f.kustomizeReplicas {
		name, count, ok := strings.Cut(pair, "=")
		if !ok {
			return nil, usage("--kustomize-replica %q: want NAME=COUNT", pair)
		}
		k.Replicas = append(k.Replicas, argo.KustomizeReplica{Name: name, Count: intstr.Parse(count)})
	}
	if k.NamePrefix == "" && k.NameSuffix == "" && len(k.Images)+len(k.Replicas) == 0 {
		return nil, nil
	}
	return k, nil
}

// pairs adds KEY=VALUE to the map.
func pairs(flag string, list []string, to map[string]string) (map[string]string, error) {
	for _, pair := range list {
		key, value, ok := strings.Cut(pair, "=")
		if !ok {
			return nil, usage("%s %q: want KEY=VALUE", flag, pair)
		}
		if to == nil {
			to = map[string]string{}
		}
		to[key] = value
	}
	return to, nil
}

func newAppDeleteCommand(o *appOptions) *cobra.Command {
	var cascade, yes bool
	var policy string
	cmd := &cobra.Command{
		Use:   "delete NAME",
		Short: "Delete an application and, unless told otherwise, what it deployed",
		Long: `Delete an application and, unless told otherwise, what it deployed. One that is
being deleted and does not go, because it waits for a hook, a confirmation or a
cluster, goes with --cascade=false, and what it deployed stays.`,
		Example: "  fairway app delete web-app\n  fairway app delete web-app --cascade=false",
		Args:    oneName,
		RunE: func(cmd *cobra.Command, args []string) error {
			return runAppDelete(cmd.Context(), o, args[0], cascade, policy, cmd.OutOrStdout())
		},
	}
	cmd.Flags().BoolVar(&cascade, "cascade", true, "delete what it deployed too")
	cmd.Flags().StringVarP(&policy, "propagation-policy", "p", "foreground", "foreground or background")
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "accepted and without effect: nothing is asked")
	return cmd
}

func runAppDelete(ctx context.Context, o *appOptions, name string, cascade bool, policy string, out io.Writer) error {
	finalizers := map[string]string{"foreground": argo.Finalizer, "background": argo.BackgroundFinalizer}
	if finalizers[policy] == "" {
		return usage("--propagation-policy %q: want foreground or background", policy)
	}
	c, obj, err := o.open(ctx, name)
	if err != nil {
		return err
	}
	app, ok := obj.(*argo.Application)
	switch {
	case !ok && !cascade:
		return withHint(fmt.Errorf("%s is a %s, whose spec says what becomes of what it deployed", name, kindOf(obj)), keepDeployed(obj))
	case ok && (app.DeletionTimestamp == nil || !cascade): // no finalizer can be added to one that goes
		before := app.DeepCopy()
		kept := app.Finalizers[:0]
		for _, f := range app.Finalizers {
			if !strings.HasPrefix(f, argo.Finalizer) {
				kept = append(kept, f)
			}
		}
		app.Finalizers = kept
		if cascade {
			app.Finalizers = append(app.Finalizers, finalizers[policy])
		}
		if err := c.Patch(ctx, app, client.MergeFrom(before)); err != nil {
			return fmt.Errorf("preparing the deletion of %s: %w", name, err)
		}
	}
	// One that was being deleted already is gone with its finalizers.
	if err := client.IgnoreNotFound(c.Delete(ctx, obj, client.PropagationPolicy(metav1.DeletePropagationBackground))); err != nil {
		return fmt.Errorf("deleting %s: %w", name, err)
	}
	fmt.Fprintf(out, "%s '%s' deleted\n", strings.ToLower(kindOf(obj)), obj.GetName())
	return nil
}
