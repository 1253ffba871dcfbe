{{/* A setting's value as text. Numbers of a values file are floats, which Go would write as 8.388608e+06. */}}
{{- define "pingstream.text" -}}
{{- if kindIs "slice" . -}}
{{ join "," . }}
{{- else if and (kindIs "float64" .) (eq (floor .) .) -}}
{{ int64 . }}
{{- else -}}
{{ . }}
{{- end -}}
{{- end }}

{{/* Where a secret setting comes from, as {name: …, key: …}; empty when it is not set. Takes the root and the setting's name. */}}
{{- define "pingstream.secretKeyRef" -}}
{{- $secret := index .root.Values.secrets .name -}}
{{- if $secret.value -}}
{name: {{ include "pingstream.fullname" .root }}, key: {{ .name }}}
{{- else if $secret.existingSecret -}}
{name: {{ $secret.existingSecret }}, key: {{ $secret.key }}}
{{- end -}}
{{- end }}

{{- define "pingstream.environment" -}}
{{- range $name, $value := .Values.settings }}
{{- $text := include "pingstream.text" $value }}
{{- if $text }}
- name: PINGSTREAM_{{ upper $name }}
  value: {{ $text | quote }}
{{- end }}
{{- end }}
{{- range $name, $file := .Values.files }}
{{- if $file.existingSecret }}
- name: PINGSTREAM_{{ upper $name }}
  value: {{ printf "/etc/pingstream/%s/%s" $name $file.key | quote }}
{{- end }}
{{- end }}
{{- range $name, $_ := .Values.secrets }}
{{- with include "pingstream.secretKeyRef" (dict "root" $ "name" $name) }}
- name: PINGSTREAM_{{ upper $name }}
  valueFrom:
    secretKeyRef: {{ . }}
{{- end }}
{{- end }}
{{- end }}

{{/* Values that fit the schema each, but not together. */}}
{{- define "pingstream.check" -}}
{{- if not (include "pingstream.secretKeyRef" (dict "root" . "name" "pseudonym_key")) }}
{{- fail "secrets.pseudonym_key needs an existingSecret or a value: without one every worker would make its own" }}
{{- end }}
{{- $clickhouse := .Values.secrets.clickhouse }}
{{- if or (hasPrefix "chdb://" $clickhouse.value) (not (or $clickhouse.value $clickhouse.existingSecret)) }}
{{- fail "secrets.clickhouse needs an existingSecret or a value, the DSN of a server: the image is without the embedded ClickHouse" }}
{{- end }}
{{- if hasPrefix "SASL" .Values.settings.kafka_security_protocol }}
{{- if not (and .Values.settings.kafka_security_username (include "pingstream.secretKeyRef" (dict "root" . "name" "kafka_security_password"))) }}
{{- fail (printf "settings.kafka_security_protocol %s needs settings.kafka_security_username and secrets.kafka_security_password" .Values.settings.kafka_security_protocol) }}
{{- end }}
{{- end }}
{{- if and .Values.serviceMonitor.enabled (not (include "pingstream.secretKeyRef" (dict "root" . "name" "web_token"))) }}
{{- fail "serviceMonitor.enabled needs secrets.web_token, an existingSecret or a value: metrics are for who shows it" }}
{{- end }}
{{- if gt (int .Values.keda.minReplicas) (int .Values.keda.maxReplicas) }}
{{- fail "keda.minReplicas is more than keda.maxReplicas" }}
{{- end }}
{{- end }}
