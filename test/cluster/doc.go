// Package cluster runs clusters of kinsy.
package cluster
