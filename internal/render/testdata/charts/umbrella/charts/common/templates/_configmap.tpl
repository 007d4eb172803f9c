{{- define "common.configmap.base" -}}
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ .Release.Name }}-{{ .Chart.Name }}
  labels: {team: {{ .Values.global.team }}}
{{- end -}}
{{- define "common.configmap" -}}
{{- $top := first . -}}
{{- $overrides := fromYaml (include (index . 1) $top) | default (dict) -}}
{{- $base := fromYaml (include "common.configmap.base" $top) | default (dict) -}}
{{- toYaml (merge $overrides $base) -}}
{{- end -}}
