package object

import (
	corev1 "k8s.io/api/core/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"tulle.dev/tulle/api/v1alpha1"
)

func validateGRPCRoute(*gatewayv1.GRPCRoute) []Issue            { return nil }
func validateTLSRoute(*gatewayv1.TLSRoute) []Issue              { return nil }
func validateTCPRoute(*gatewayv1.TCPRoute) []Issue              { return nil }
func validateReferenceGrant(*gatewayv1.ReferenceGrant) []Issue  { return nil }
func validateTrafficPolicy(*v1alpha1.TrafficPolicy) []Issue     { return nil }
func validateRateLimitPolicy(*v1alpha1.RateLimitPolicy) []Issue { return nil }
func validateFaultPolicy(*v1alpha1.FaultPolicy) []Issue         { return nil }
func validateNamespace(*corev1.Namespace) []Issue               { return nil }
