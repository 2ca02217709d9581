// Sends events to fast-ingest, each stored once, whatever fails in between. Go 1.18 or newer, nothing else.
//
//	FAST_INGEST_URL=http://127.0.0.1:8080 go run client.go < events.ndjson > not-accepted.ndjson
//
// reads one JSON event a line and ends with status 0 once all of them are accepted. Otherwise it says why, ends with status 1 and writes those
// that were not accepted to standard output, with their ids: sending these again is safe. From a program:
//
//	err := Send([]Event{{"event_name": "page_view", "channel": "web", "user_id": "u1", "timestamp": time.Now().UnixMilli()}})
package main

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

const (
	batchEvents = 1000      // what the server takes in one request
	batchBytes  = 4_000_000 // likewise: 4 MiB, with some room
	waitFirst   = 200 * time.Millisecond
	waitMax     = 10 * time.Second // the longest wait doubles with each try, up to this
)

var (
	url = strings.TrimRight(setting("FAST_INGEST_URL", "http://127.0.0.1:8080"), "/") + "/events/bulk"
	// Time after which a batch that is not accepted is given up.
	giveUpAfter, _ = time.ParseDuration(setting("FAST_INGEST_GIVE_UP_AFTER", "300") + "s")
	// Time that a try may take, its answer included.
	tryTimeout, _ = time.ParseDuration(setting("FAST_INGEST_TRY_TIMEOUT", "30") + "s")
	client        = http.Client{
		Timeout:       tryTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
)

// Event is one event, by the names of its fields.
type Event map[string]any

// NotAccepted says why; Events are those that were not accepted, as far as is known. They have their ids: send the same again.
type NotAccepted struct {
	Why    string
	Events []Event
}

func (e *NotAccepted) Error() string { return e.Why }

// Send returns once the server has all events safe on disk, or with a *NotAccepted.
func Send(events []Event) error {
	encoded := make([][]byte, len(events))
	for i, event := range events {
		// Before the first try, and never changed: by its id the server recognizes an event that it already has.
		if event["event_id"] == nil {
			event["event_id"] = newID()
		}
		var err error
		if encoded[i], err = json.Marshal(event); err != nil {
			return err
		}
	}
	for start := 0; start < len(events); {
		end, size := start+1, len(encoded[start])
		for end < len(events) && end-start < batchEvents && size+len(encoded[end])+1 < batchBytes {
			size += len(encoded[end]) + 1
			end++
		}
		body := "[" + string(bytes.Join(encoded[start:end], []byte(","))) + "]"
		if why := sendBatch(body, end-start); why != "" {
			return &NotAccepted{why, events[start:]}
		}
		start = end
	}
	return nil
}

// Sends the same bytes until they are accepted. Returns why they are not.
func sendBatch(body string, count int) string {
	deadline := time.Now().Add(giveUpAfter)
	for longest := waitFirst; ; longest = min(2*longest, waitMax) {
		retryAfter, isFinal, why := tryOnce(body, count)
		if why == "" || isFinal {
			return why
		}
		// Full jitter: clients that failed together must not retry together.
		jitter, _ := rand.Int(rand.Reader, big.NewInt(int64(longest)))
		wait := retryAfter + time.Duration(jitter.Int64())
		if time.Now().Add(wait).After(deadline) {
			return fmt.Sprintf("gave up after %v: %s", giveUpAfter, why)
		}
		fmt.Fprintf(os.Stderr, "trying again in %.1f s: %s\n", wait.Seconds(), why)
		time.Sleep(wait)
	}
}

// Returns no reason once accepted. Otherwise why not, whether retries are useless, and how long to wait at least.
func tryOnce(body string, count int) (retryAfter time.Duration, isFinal bool, why string) {
	request, err := http.NewRequest("POST", url, strings.NewReader(body))
	if err != nil {
		return 0, true, err.Error()
	}
	request.Header.Set("Content-Type", "application/json")
	if key := os.Getenv("FAST_INGEST_KEY"); key != "" {
		request.Header.Set("Authorization", "Bearer "+key)
	}
	answer, err := client.Do(request)
	if err != nil {
		return 0, false, "no answer: " + err.Error()
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return 0, false, "half an answer: " + err.Error()
	}
	var fields struct {
		Accepted     int
		Code, Detail string
		Errors       []struct {
			Index          int
			Field, Message string
		}
	}
	_ = json.Unmarshal(text, &fields) // the body may be of a proxy in front, and no JSON
	status := answer.StatusCode
	if (status == 200 || status == 202) && fields.Accepted == count {
		return 0, false, ""
	}
	why = fmt.Sprintf("%s %s: %s", answer.Status, fields.Code, fields.Detail)
	// 408 and 5xx come from a slow network, or from a proxy in front.
	if status == 408 || status == 429 || status >= 500 {
		seconds, _ := strconv.ParseUint(answer.Header.Get("Retry-After"), 10, 31)
		return time.Duration(seconds) * time.Second, false, why
	}
	for _, e := range fields.Errors {
		why += fmt.Sprintf("\n  event %d, %s: %s", e.Index, e.Field, e.Message)
	}
	return 0, true, why
}

func newID() string {
	var id [16]byte
	if _, err := rand.Read(id[:]); err != nil {
		panic(err)
	}
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
}

func min(a, b time.Duration) time.Duration {
	if a < b {
		return a
	}
	return b
}

func setting(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}

func main() {
	var events []Event
	input := json.NewDecoder(os.Stdin)
	input.UseNumber()
	for {
		var event Event
		if err := input.Decode(&event); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			fmt.Fprintf(os.Stderr, "event %d of the input: %v\n", len(events)+1, err)
			os.Exit(1)
		}
		events = append(events, event)
	}
	err := Send(events)
	var refused *NotAccepted
	if errors.As(err, &refused) {
		fmt.Fprintf(os.Stderr, "%d of %d events were not accepted: %s\n", len(refused.Events), len(events), refused.Why)
		output := json.NewEncoder(os.Stdout)
		for _, event := range refused.Events {
			_ = output.Encode(event)
		}
	} else if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	if err != nil {
		os.Exit(1)
	}
}
