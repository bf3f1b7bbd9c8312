package errs

// Parts is an error on its way from one of Corten's processes to another, which says it as its own.
type Parts struct {
	Kind   Kind   `json:"kind"`
	Op     string `json:"op,omitempty"`
	Object string `json:"object,omitempty"`
	Text   string `json:"text"`
	Hint   string `json:"hint,omitempty"`
}

// PartsOf takes an error apart: the outermost operation and object, the words of the rest.
func PartsOf(err error) Parts {
	p := Parts{Kind: KindOf(err), Text: err.Error(), Hint: HintOf(err)}
	if x, ok := err.(*Error); ok && x.Err != nil {
		p.Op, p.Object, p.Text = x.Op, x.Object, x.Err.Error()
	}
	return p
}

// Whole is the error again.
func (p Parts) Whole() *Error { return Newf(p.Kind, p.Op, p.Object, p.Text).WithHint(p.Hint) }
