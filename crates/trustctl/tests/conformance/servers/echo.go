// Echo server in Go: bytes as they come with io.Copy, or messages with a four-byte length with
// io.ReadFull.
//
//	echo raw
//	echo MAX_FRAME TIMEOUT_SECONDS
//
// Listens on a free port and prints it.
package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"strconv"
	"time"
)

func main() {
	serve := copyAll
	if os.Args[1] != "raw" {
		maxFrame, err := strconv.ParseUint(os.Args[1], 10, 32)
		if err != nil {
			log.Fatal(err)
		}
		seconds, err := strconv.ParseFloat(os.Args[2], 64)
		if err != nil {
			log.Fatal(err)
		}
		timeout := time.Duration(seconds * float64(time.Second))
		serve = func(client *net.TCPConn) { serveMessages(client, uint32(maxFrame), timeout) }
	}
	listener, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	for {
		client, err := listener.AcceptTCP()
		if err != nil {
			log.Print(err)
			time.Sleep(100 * time.Millisecond)
			continue
		}
		go func() {
			defer client.Close()
			serve(client)
		}()
	}
}

// copyAll splices the connection into itself until the client's FIN.
func copyAll(client *net.TCPConn) {
	io.Copy(client, client)
}

// serveMessages echoes until the client is done, idle, or announces too much.
func serveMessages(client *net.TCPConn, maxFrame uint32, timeout time.Duration) {
	echo(client, maxFrame, timeout)
	// FIN first, then the client's: closing with unread bytes would reset the connection.
	client.CloseWrite()
	client.SetReadDeadline(time.Now().Add(timeout))
	io.Copy(io.Discard, client)
}

func echo(client *net.TCPConn, maxFrame uint32, timeout time.Duration) {
	header := make([]byte, 4)
	for {
		client.SetReadDeadline(time.Now().Add(timeout))
		if _, err := io.ReadFull(client, header); err != nil {
			return
		}
		length := binary.BigEndian.Uint32(header)
		if length > maxFrame {
			return
		}
		message := make([]byte, 4+length)
		copy(message, header)
		if _, err := io.ReadFull(client, message[4:]); err != nil {
			return
		}
		client.SetWriteDeadline(time.Now().Add(timeout))
		if _, err := client.Write(message); err != nil {
			return
		}
	}
}
