{{- define "isat.namespace" -}}
{{ .Values.namespace.name | default .Release.Namespace }}
{{- end }}

{{- define "isat.labels" -}}
app.kubernetes.io/name: isat
{{- end }}

{{- define "isat.image" -}}
{{- with .Values.image }}
{{- .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{- define "isat.secret" -}}
{{ .Values.wireKey.existingSecret | default "isat-wire" }}
{{- end }}
