package hosts_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// peerName is the name by which the test's program is what runs in containers.
const peerName = "hosts-peer"

// peer is that program.
func peer(args []string) int {
	err := errors.New("usage: hosts-peer serve PORT | ask NETWORK ADDRESS | lookup NAME | storm RATE SECONDS NAMES...")
	switch {
	case len(args) == 2 && args[0] == "serve":
		err = serve(args[1])
	case len(args) == 3 && args[0] == "ask":
		var as string
		if as, err = ask(args[1], args[2], soon); err == nil {
			fmt.Println(as)
		}
	case len(args) == 2 && args[0] == "lookup":
		ctx, cancel := context.WithTimeout(context.Background(), soon)
		defer cancel()
		var found []string
		if found, err = net.DefaultResolver.LookupHost(ctx, args[1]); err == nil {
			fmt.Println(strings.Join(found, " "))
		}
	case len(args) > 3 && args[0] == "storm":
		err = storm(args[1], args[2], args[3:])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// serve answers connections with the address that they come from and then with what they say, and
// packets of UDP with their address. It says when it is ready.
func serve(port string) error {
	l, err := net.Listen("tcp", ":"+port)
	if err != nil {
		return err
	}
	c, err := net.ListenPacket("udp", ":"+port)
	if err != nil {
		return err
	}
	go func() {
		b := make([]byte, 1500)
		for {
			n, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = c.WriteTo(append([]byte(host(from)+"\n"), b[:n]...), from)
		}
	}()
	fmt.Println("ready")
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			_, _ = io.WriteString(conn, host(conn.RemoteAddr())+"\n")
			_, _ = io.Copy(conn, conn)
		}()
	}
}

func host(a net.Addr) string {
	h, _, _ := net.SplitHostPort(a.String())
	return h
}

// ask returns as whom a server sees this process.
func ask(network, address string, wait time.Duration) (string, error) {
	c, err := net.DialTimeout(network, address, wait)
	if err != nil {
		return "", err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(wait))
	if strings.HasPrefix(network, "udp") {
		if _, err := c.Write([]byte("?")); err != nil {
			return "", err
		}
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	return strings.TrimSuffix(line, "\n"), err
}

// outsideName is what the server of names outside knows: any name that ends so.
const outsideName = ".outside.example."

// answerNames is a server of names: it knows those outside, by one address of each family.
func answerNames(c net.PacketConn) {
	b := make([]byte, 1500)
	for {
		n, from, err := c.ReadFrom(b)
		if err != nil {
			return
		}
		var m dnsmessage.Message
		if m.Unpack(b[:n]) != nil || len(m.Questions) != 1 {
			continue
		}
		q := m.Questions[0]
		h := dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 1}
		m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
		switch {
		case !strings.HasSuffix(q.Name.String(), outsideName):
			m.RCode = dnsmessage.RCodeNameError
		case q.Type == dnsmessage.TypeA:
			m.Answers = []dnsmessage.Resource{{Header: h, Body: &dnsmessage.AResource{A: [4]byte{203, 0, 113, 9}}}}
		case q.Type == dnsmessage.TypeAAAA:
			m.Answers = []dnsmessage.Resource{{Header: h, Body: &dnsmessage.AAAAResource{AAAA: [16]byte{0x20, 1, 0xd, 0xb8, 15: 9}}}}
		}
		if out, err := m.Pack(); err == nil {
			_, _ = c.WriteTo(out, from)
		}
	}
}

// storm asks for names at random, at a rate, for some time, A and AAAA in turn, and prints how many
// answers it wanted and did not get. Each question has one try and the five seconds of resolv.conf(5).
func storm(rate, seconds string, names []string) error {
	perSecond, err1 := strconv.Atoi(rate)
	length, err2 := strconv.Atoi(seconds)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	const askers = 4
	var mu sync.Mutex
	var asked, failed int
	var why error
	var all sync.WaitGroup
	begin := time.Now()
	for i := range askers {
		all.Go(func() {
			c, err := net.Dial("udp", "127.0.0.11:53")
			if err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed, why = failed+1, err
				return
			}
			defer c.Close()
			for n := i; n < perSecond*length; n += askers {
				time.Sleep(time.Until(begin.Add(time.Duration(n) * time.Second / time.Duration(perSecond))))
				err := question(c, uint16(n), names[rand.IntN(len(names))], n/askers%2 == 1)
				mu.Lock()
				if asked++; err != nil {
					failed, why = failed+1, err
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	fmt.Printf("asked %d failed %d in %.1f s: %v\n", asked, failed, time.Since(begin).Seconds(), why)
	return nil
}

// question asks once.
func question(c net.Conn, id uint16, name string, six bool) error {
	q := dnsmessage.Question{Name: dnsmessage.MustNewName(name + "."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}
	if six {
		q.Type = dnsmessage.TypeAAAA
	}
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: id, RecursionDesired: true}, Questions: []dnsmessage.Question{q}}
	out, err := m.Pack()
	if err != nil {
		return err
	}
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := c.Write(out); err != nil {
		return err
	}
	b := make([]byte, 1500)
	for {
		n, err := c.Read(b)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := m.Unpack(b[:n]); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		switch {
		case m.ID != id: // an answer that came too late
		case m.RCode != dnsmessage.RCodeSuccess || len(m.Answers) == 0 || m.Answers[0].Header.Type != q.Type:
			return fmt.Errorf("%s %v: %v, %d answers", name, q.Type, m.RCode, len(m.Answers))
		default:
			return nil
		}
	}
}
