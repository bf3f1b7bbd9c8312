package systemd

import (
	"errors"
	"slices"
	"strings"

	"github.com/cortenhq/corten/internal/errs"
)

// Start makes a scope, with processes among its properties ("PIDs"). One of that name that failed, and
// that nobody has cleared away, is. Of optional properties those are left out that this systemd does
// not know: it says which.
func (m *Manager) Start(unit string, properties, optional []Property) error {
	for cleared := false; ; {
		job, err := m.ask(name, object, iface, "StartTransientUnit", unit, "fail", slices.Concat(properties, optional), auxiliary{})
		var fault *Fault
		if !errors.As(err, &fault) {
			return m.begun(unit, job, err)
		}
		rest := without(optional, fault)
		switch {
		case len(rest) < len(optional):
			optional = rest
		case strings.HasSuffix(fault.Name, ".UnitExists") && !cleared:
			cleared = true
			_, _ = m.ask(name, object, iface, "ResetFailedUnit", unit)
		case strings.HasSuffix(fault.Name, ".UnitExists"):
			return errs.New(errs.Exists, "make scope", unit, err).WithHint("systemctl stop it, or choose another name in cgroupsPath")
		default:
			return errs.New(errs.Invalid, "make scope", unit, err).WithHint(Hint)
		}
	}
}

func (m *Manager) begun(unit string, job []string, err error) error {
	how := ""
	if err == nil && len(job) != 1 {
		err = errWire
	}
	if err == nil {
		how, err = m.finish(job[0])
	}
	if err == nil && how != "done" {
		_, _ = m.ask(name, object, iface, "ResetFailedUnit", unit)
		err = errs.Newf(errs.Other, "", "", "its job ended as "+how)
	}
	return errs.Wrap("make scope", unit, err)
}

// without leaves out the property that systemd says it does not know, or does not let anybody set:
// "Cannot set property AllowedCPUs, or unknown property."
func without(list []Property, fault *Fault) []Property {
	return slices.DeleteFunc(slices.Clone(list), func(p Property) bool {
		return strings.Contains(fault.Text, " "+p.Name+",") || strings.Contains(fault.Text, " "+p.Name+" ")
	})
}

// Set changes properties of a unit until it is gone. Those that this systemd does not know are left out.
func (m *Manager) Set(unit string, properties []Property) error {
	for len(properties) > 0 {
		_, err := m.ask(name, object, iface, "SetUnitProperties", unit, true, properties)
		var fault *Fault
		if !errors.As(err, &fault) {
			return errs.Wrap("change unit", unit, err)
		}
		rest := without(properties, fault)
		if len(rest) == len(properties) {
			return errs.New(errs.Invalid, "change unit", unit, err)
		}
		properties = rest
	}
	return nil
}

// Stop stops a unit, which ends what is in it, and waits until it has. One that is not there is no error.
func (m *Manager) Stop(unit string) error {
	job, err := m.ask(name, object, iface, "StopUnit", unit, "replace")
	var fault *Fault
	if errors.As(err, &fault) && strings.HasSuffix(fault.Name, ".NoSuchUnit") {
		return nil
	}
	if err == nil && len(job) == 1 {
		_, err = m.finish(job[0])
	}
	if err == nil {
		_, _ = m.ask(name, object, iface, "ResetFailedUnit", unit) // one that failed would stay
	}
	return errs.Wrap("stop unit", unit, err)
}

// Group is the control group below which this systemd makes those of its units: "/", or
// "/user.slice/user-1000.slice/user@1000.service".
func (m *Manager) Group() (string, error) {
	got, err := m.ask(name, object, "org.freedesktop.DBus.Properties", "Get", iface, "ControlGroup")
	if err == nil && len(got) != 1 {
		err = errWire
	}
	if err != nil {
		return "", errs.Wrap("ask systemd for its control group", "", err)
	}
	return "/" + strings.Trim(got[0], "/"), nil
}
