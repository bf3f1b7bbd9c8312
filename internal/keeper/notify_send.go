package keeper

import "strings"

// Notify sends a notification to a service manager: socket is what NOTIFY_SOCKET says,
// sd_notify(3). What does not arrive is lost.
func Notify(socket, s string) {
	if s != "" {
		(&keep{orders: Orders{Notify: NotifyOrders{Socket: socket}}}).tell(s)
	}
}

// Allowed is the part of a notification that a container has a say in.
func Allowed(s string) string { return strings.TrimSuffix(allowed(s), "\n") }
