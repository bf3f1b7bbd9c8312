package cni

// Parse is how a configuration is read.
var Parse = parse
