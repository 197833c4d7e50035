{{- /* SPDX-License-Identifier: Apache-2.0 */ -}}
{{- define "gorget.labels" -}}
app.kubernetes.io/part-of: gorget
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "gorget.image" -}}
{{ .root.Values.image.registry }}/gorget-{{ .program }}:{{ .root.Values.image.tag | default .root.Chart.AppVersion }}
{{- end }}

{{- define "gorget.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* Not empty when somebody of the cluster asks the agents. */ -}}
{{- define "gorget.feed" -}}
{{- if or .Values.relay.enabled .Values.operator.enabled }}true{{ end }}
{{- end }}
