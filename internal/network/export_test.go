package network

// Settle is what Change does once corten-net has done its part.
var Settle = settle
