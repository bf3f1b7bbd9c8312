package registry

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/cortenhq/corten/internal/errs"
)

// Keychain finds credentials in the files that docker login and podman login write
// (containers-auth.json(5)). Its Lookup is an Auth.
type Keychain struct {
	Files         []string      // read in this order; the first that knows the registry decides
	HelperTimeout time.Duration // for a credential helper to answer; 0 means one minute
}

// hubKey is docker.io's name in the files that Docker writes and to credential helpers.
const hubKey = "https://index.docker.io/v1/"

const maxAuthFile = 4 << 20 // bytes

// AuthFiles lists where credentials may be, by the rules of containers-auth.json(5) and
// Docker: only REGISTRY_AUTH_FILE if that is set, else Podman's files, then Docker's.
func AuthFiles(getenv func(string) string, uid int) []string {
	if f := getenv("REGISTRY_AUTH_FILE"); f != "" {
		return []string{f}
	}
	var files []string
	home := getenv("HOME")
	if run := getenv("XDG_RUNTIME_DIR"); run != "" {
		files = append(files, filepath.Join(run, "containers", "auth.json"))
	} else {
		files = append(files, filepath.Join("/run/containers", strconv.Itoa(uid), "auth.json"))
	}
	if config := getenv("XDG_CONFIG_HOME"); config != "" {
		files = append(files, filepath.Join(config, "containers", "auth.json"))
	} else if home != "" {
		files = append(files, filepath.Join(home, ".config", "containers", "auth.json"))
	}
	if docker := getenv("DOCKER_CONFIG"); docker != "" {
		files = append(files, filepath.Join(docker, "config.json"))
	} else if home != "" {
		files = append(files, filepath.Join(home, ".docker", "config.json"))
	}
	return files
}

type authFile struct {
	Auths       map[string]authEntry `json:"auths"`
	CredHelpers map[string]string    `json:"credHelpers"`
	CredsStore  string               `json:"credsStore"`
}

type authEntry struct {
	Auth          string `json:"auth"` // base64 of user:password
	Username      string `json:"username"`
	Password      string `json:"password"`
	IdentityToken string `json:"identitytoken"`
	RegistryToken string `json:"registrytoken"`
}

// Lookup returns the credentials for a repository, empty ones if no file has any. Within a
// file a helper for this registry comes first, then the entry with the longest key, then
// the helper for all registries. That last one may be missing or fail: a public image can
// be read without it, and Origin remembers the trouble.
func (k Keychain) Lookup(ctx context.Context, registry, repository string) (Credential, error) {
	var looked, troubles []string
	for _, file := range k.Files {
		doc, err := readAuthFile(file)
		if err != nil {
			return Credential{}, err
		}
		if doc == nil {
			looked = append(looked, file+" (does not exist)")
			continue
		}
		looked = append(looked, file)
		cred, trouble, err := k.lookupIn(ctx, doc, file, registry, repository)
		if err != nil || !cred.empty() {
			return cred, err
		}
		if trouble != "" {
			troubles = append(troubles, trouble)
		}
	}
	origin := "no credentials for " + registry + " were found"
	if len(looked) > 0 {
		origin += " in " + strings.Join(looked, ", ")
	}
	if len(troubles) > 0 {
		origin += " (" + strings.Join(troubles, "; ") + ")"
	}
	return Credential{Origin: origin}, nil
}

// readAuthFile returns nil for a file that does not exist.
func readAuthFile(file string) (*authFile, error) {
	text, err := readFileMax(file, maxAuthFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, errs.Wrap("read credentials", file, err)
	}
	doc := &authFile{}
	if len(bytes.TrimSpace(text)) == 0 {
		return doc, nil
	}
	if json.Unmarshal(text, doc) != nil { // its error could quote a secret
		return nil, errs.Newf(errs.Invalid, "read credentials", file, "the file is not the JSON that docker login and podman login write").
			WithHint("repair the file, or move it away and log in again")
	}
	return doc, nil
}

func (k Keychain) lookupIn(ctx context.Context, doc *authFile, file, registry, repository string) (cred Credential, trouble string, err error) {
	for _, key := range hostKeys(registry) {
		if name := doc.CredHelpers[key]; name != "" {
			cred, err = k.ask(ctx, name, key)
			if err != nil {
				return cred, "", errs.Wrap("", file, err)
			}
			cred.Origin = origin(cred, "helper docker-credential-"+name+", named in "+file)
			return cred, "", nil
		}
	}
	if e, ok := doc.find(registry, repository); ok {
		cred, err := e.credential()
		if err != nil {
			return cred, "", errs.Newf(errs.Invalid, "read credentials", file, "the entry for "+registry+" cannot be decoded").
				WithHint("log in again with the tool that wrote it")
		}
		if !cred.empty() {
			cred.Origin = origin(cred, file)
			return cred, "", nil
		}
	}
	if doc.CredsStore == "" {
		return Credential{}, "", nil
	}
	key := registry
	if registry == "docker.io" {
		key = hubKey
	}
	cred, err = k.ask(ctx, doc.CredsStore, key)
	if ctx.Err() != nil {
		return Credential{}, "", errs.New(errs.Canceled, "ask credential helper", doc.CredsStore, ctx.Err())
	}
	if err != nil {
		return Credential{}, err.Error(), nil
	}
	cred.Origin = origin(cred, "helper docker-credential-"+doc.CredsStore+", named in "+file)
	return cred, "", nil
}

func origin(cred Credential, where string) string {
	if cred.Username == "" {
		return "a token from " + where + " was used"
	}
	return "the credentials of " + strconv.Quote(cred.Username) + " from " + where + " were used"
}

// hostKeys are the names that one registry goes by in these files.
func hostKeys(registry string) []string {
	if registry == "docker.io" {
		return []string{"docker.io", hubKey, "index.docker.io", hubHost}
	}
	return []string{registry}
}

// find returns the entry with the longest key that names the repository, one of the
// namespaces above it, or the registry.
func (f *authFile) find(registry, repository string) (authEntry, bool) {
	for path := repository; path != ""; {
		if e, ok := f.Auths[registry+"/"+path]; ok {
			return e, true
		}
		slash := strings.LastIndexByte(path, '/')
		path = path[:max(slash, 0)]
	}
	for _, key := range hostKeys(registry) {
		if e, ok := f.Auths[key]; ok {
			return e, true
		}
	}
	for _, key := range []string{"https://" + registry, "https://" + registry + "/v1/", "https://" + registry + "/v2/",
		"http://" + registry, "http://" + registry + "/v1/", "http://" + registry + "/v2/", registry + "/v1/", registry + "/v2/", registry + "/"} {
		if e, ok := f.Auths[key]; ok {
			return e, true
		}
	}
	return authEntry{}, false
}

// credential decodes an entry. Docker ends the base64 form's password at a NUL.
func (e authEntry) credential() (Credential, error) {
	cred := Credential{
		Username: e.Username, Password: Secret(e.Password),
		IdentityToken: Secret(e.IdentityToken), RegistryToken: Secret(e.RegistryToken),
	}
	if e.Auth == "" {
		return cred, nil
	}
	text, err := base64.StdEncoding.DecodeString(e.Auth)
	if err != nil {
		return Credential{}, errors.New("not base64")
	}
	user, password, ok := strings.Cut(string(text), ":")
	if !ok || user == "" {
		return Credential{}, errors.New("not user:password")
	}
	cred.Username, cred.Password = user, Secret(strings.TrimRight(password, "\x00"))
	return cred, nil
}

// readFileMax reads a whole regular file of at most limit bytes. /dev/null is an empty one:
// it is how people say "none".
func readFileMax(name string, limit int64) ([]byte, error) {
	if name == os.DevNull {
		return nil, nil
	}
	st, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	if st.Size() > limit {
		return nil, errors.New("the file is too large")
	}
	return os.ReadFile(name)
}
