package registry

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/cortenhq/corten/internal/errs"
)

const maxCertFile = 1 << 20 // bytes

// loadTLS gathers what the certificate folders hold for host, by the rules of
// containers-certs.d(5) and Docker's /etc/docker/certs.d: *.crt are certificate authorities
// trusted besides the system's, *.cert with *.key are shown to the server. It returns nil
// when the defaults serve.
func loadTLS(dirs []string, host string, insecure bool) (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: insecure}
	found := insecure
	if host != "" && !strings.ContainsAny(host, "/\x00") && host[0] != '.' {
		for _, dir := range dirs {
			n, err := addCerts(cfg, filepath.Join(dir, host))
			if err != nil {
				return nil, err
			}
			found = found || n > 0
		}
	}
	if !found {
		return nil, nil
	}
	return cfg, nil
}

// addCerts adds one folder's files to cfg and returns how many there were.
func addCerts(cfg *tls.Config, dir string) (int, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, errs.Wrap("read certificates", dir, err)
	}
	used := 0
	for _, e := range entries {
		file := filepath.Join(dir, e.Name())
		switch filepath.Ext(file) {
		case ".crt":
			err = addAuthority(cfg, file)
		case ".cert":
			err = addClientCert(cfg, file, strings.TrimSuffix(file, ".cert")+".key")
		case ".key":
			cert := strings.TrimSuffix(file, ".key") + ".cert"
			if _, err := os.Stat(cert); err != nil {
				return 0, errs.Newf(errs.Invalid, "read certificates", file, "there is no "+filepath.Base(cert)+" for this key").
					WithHint("a client certificate is NAME.cert with NAME.key; a certificate authority is NAME.crt")
			}
			continue
		default:
			continue
		}
		if err != nil {
			return 0, err
		}
		used++
	}
	return used, nil
}

func addAuthority(cfg *tls.Config, file string) error {
	pem, err := readFileMax(file, maxCertFile)
	if err != nil {
		return errs.Wrap("read certificate authority", file, err)
	}
	if cfg.RootCAs == nil {
		cfg.RootCAs, err = x509.SystemCertPool()
		if err != nil { // a host without certificates of its own
			cfg.RootCAs = x509.NewCertPool()
		}
	}
	if !cfg.RootCAs.AppendCertsFromPEM(pem) {
		return errs.Newf(errs.Invalid, "read certificate authority", file, "no PEM certificate in it")
	}
	return nil
}

func addClientCert(cfg *tls.Config, certFile, keyFile string) error {
	cert, err := readFileMax(certFile, maxCertFile)
	if err != nil {
		return errs.Wrap("read client certificate", certFile, err)
	}
	key, err := readFileMax(keyFile, maxCertFile)
	if err != nil {
		return errs.Wrap("read client key", keyFile, err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return errs.New(errs.Invalid, "read client certificate", certFile, err)
	}
	cfg.Certificates = append(cfg.Certificates, pair)
	return nil
}
