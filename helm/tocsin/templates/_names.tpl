{{- define "tocsin.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "tocsin.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains (include "tocsin.name" .) .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "tocsin.name" .) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "tocsin.selector" -}}
app.kubernetes.io/name: {{ include "tocsin.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "tocsin.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "tocsin.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: tocsin
{{- end -}}

{{/* Name, namespace and labels of an object; takes a list: the root, a suffix of the name, more labels. */}}
{{- define "tocsin.metadata" -}}
{{- $root := index . 0 -}}
name: {{ include "tocsin.fullname" $root }}{{ index . 1 }}
namespace: {{ $root.Release.Namespace }}
labels:
  {{- include "tocsin.labels" $root | nindent 2 }}
  {{- with index . 2 }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{- define "tocsin.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}
{{- end -}}

{{- define "tocsin.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "tocsin.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* Whether a probe asks the API server: only then the pod gets a token. Not empty means yes. */}}
{{- define "tocsin.asksKubernetes" -}}
{{- if or .Values.rbac.namespaces .Values.rbac.rules (not .Values.rbac.create) -}}yes{{- end -}}
{{- end -}}

{{- define "tocsin.configMap" -}}
{{- default (include "tocsin.fullname" .) .Values.existingConfigMap -}}
{{- end -}}

{{/* A matcher as Alertmanager writes it, `name=~"value"`, as the AlertmanagerConfig has it. */}}
{{- define "tocsin.matcher" -}}
{{- $form := `^\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*(=~|!~|!=|=)\s*"(.*)"\s*$` -}}
{{- if not (regexMatch $form .) -}}{{- fail (printf "alertmanagerConfig.inhibitions: %q is no matcher" .) -}}{{- end -}}
- name: {{ regexReplaceAll $form . "${1}" }}
  matchType: {{ regexReplaceAll $form . "${2}" | quote }}
  value: {{ regexReplaceAll $form . "\"${3}\"" }}
{{- end -}}

{{- /* Gives the alerts of rule groups, in place, the label by which the routes of an AlertmanagerConfig are scoped; one
that a rule has itself stays. */}}
{{- define "tocsin.namespaced" -}}
{{- $top := index . 0 }}
{{- range $group := index . 1 }}
{{- range $rule := $group.rules }}
{{- if and $rule.alert $top.Values.prometheusRule.namespaceLabel }}
{{- $_ := set $rule "labels" (merge (dict) ($rule.labels | default dict) (dict "namespace" $top.Release.Namespace)) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
