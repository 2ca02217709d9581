<?php
// Sends events to fast-ingest, each stored once, whatever fails in between. PHP 8.0 or newer with its curl extension, nothing else.
//
//     FAST_INGEST_URL=http://127.0.0.1:8080 php client.php < events.ndjson > not-accepted.ndjson
//
// reads one JSON event a line and ends with status 0 once all of them are accepted. Otherwise it says why, ends with status 1 and writes those
// that were not accepted to standard output, with their ids: sending these again is safe. From a program, with the functions below:
//
//     $event = ['event_name' => 'page_view', 'channel' => 'web', 'user_id' => 'u1', 'timestamp' => (int) (microtime(true) * 1000)];
//     send([(object) $event]);
declare(strict_types=1);

define('URL', rtrim(getenv('FAST_INGEST_URL') ?: 'http://127.0.0.1:8080', '/') . '/events/bulk');
define('KEY', getenv('FAST_INGEST_KEY') ?: '');
// Seconds after which a batch that is not accepted is given up.
define('GIVE_UP_AFTER', (float) (getenv('FAST_INGEST_GIVE_UP_AFTER') ?: 300));
// Seconds that a try may take, its answer included.
define('TRY_TIMEOUT', (int) (getenv('FAST_INGEST_TRY_TIMEOUT') ?: 30));
// What the server takes in one request: 1,000 events, and 4 MiB with some room.
const BATCH_EVENTS = 1000;
const BATCH_BYTES = 4_000_000;
// Seconds; the longest wait doubles with each try.
const WAIT_FIRST = 0.2;
const WAIT_MAX = 10.0;
const JSON_AS_IT_IS = JSON_THROW_ON_ERROR | JSON_UNESCAPED_UNICODE | JSON_UNESCAPED_SLASHES | JSON_PRESERVE_ZERO_FRACTION;

/** Says why; `$events` are those that were not accepted, as far as is known. They have their ids: send the same again. */
class NotAccepted extends RuntimeException
{
    public array $events = [];
}

/** Returns once the server has all of these objects safe on disk; throws NotAccepted. */
function send(array $events): void
{
    foreach ($events as $event) {
        // Before the first try, and never changed: by its id the server recognizes an event that it already has.
        $event->event_id ??= uuid();
    }
    $encoded = array_map(fn ($event) => json_encode($event, JSON_AS_IT_IS), $events);
    for ($start = 0; $start < count($events); $start = $end) {
        $size = strlen($encoded[$start]);
        for ($end = $start + 1; $end < count($events) && $end - $start < BATCH_EVENTS; $end++) {
            $size += strlen($encoded[$end]) + 1;
            if ($size > BATCH_BYTES) {
                break;
            }
        }
        try {
            send_batch('[' . implode(',', array_slice($encoded, $start, $end - $start)) . ']', $end - $start);
        } catch (NotAccepted $error) {
            $error->events = array_slice($events, $start);
            throw $error;
        }
    }
}

/** Sends the same bytes until they are accepted. */
function send_batch(string $body, int $count): void
{
    $deadline = microtime(true) + GIVE_UP_AFTER;
    for ($longest = WAIT_FIRST; [$why, $retry_after] = try_once($body, $count); $longest = min(2 * $longest, WAIT_MAX)) {
        // Full jitter: clients that failed together must not retry together.
        $wait = $retry_after + $longest * mt_rand() / mt_getrandmax();
        if (microtime(true) + $wait > $deadline) {
            throw new NotAccepted(sprintf('gave up after %g s: %s', GIVE_UP_AFTER, $why));
        }
        fprintf(STDERR, "trying again in %.1f s: %s\n", $wait, $why);
        usleep((int) ($wait * 1e6));
    }
}

/** Why to try again, and after how many seconds at least; null once accepted. Throws NotAccepted if retries are useless. */
function try_once(string $body, int $count): ?array
{
    $headers = ['Content-Type: application/json', ...(KEY === '' ? [] : ['Authorization: Bearer ' . KEY])];
    $retry_after = 0;
    $curl = curl_init(URL);
    curl_setopt_array($curl, [
        CURLOPT_POSTFIELDS => $body,
        CURLOPT_HTTPHEADER => $headers,
        CURLOPT_TIMEOUT => TRY_TIMEOUT,
        CURLOPT_RETURNTRANSFER => true,
        CURLOPT_HEADERFUNCTION => function ($curl, $line) use (&$retry_after) {
            if (preg_match('/^retry-after:\s*(\d+)\s*$/i', $line, $found)) {
                $retry_after = (int) $found[1];
            }
            return strlen($line);
        },
    ]);
    $text = curl_exec($curl);
    if ($text === false) {
        return ['no answer: ' . curl_error($curl), 0];
    }
    $status = curl_getinfo($curl, CURLINFO_RESPONSE_CODE);
    $fields = json_decode($text, true);
    if (in_array($status, [200, 202]) && ($fields['accepted'] ?? null) === $count) {
        return null;
    }
    $why = $status . ' ' . ($fields['code'] ?? '') . ': ' . ($fields['detail'] ?? substr($text, 0, 200));
    // 408 and 5xx come from a slow network, or from a proxy in front.
    if (in_array($status, [408, 429]) || $status >= 500) {
        return [$why, $retry_after];
    }
    foreach ($fields['errors'] ?? [] as $error) {
        $why .= "\n  event {$error['index']}, {$error['field']}: {$error['message']}";
    }
    throw new NotAccepted($why);
}

function uuid(): string
{
    $bytes = random_bytes(16);
    $bytes[6] = chr(ord($bytes[6]) & 0x0f | 0x40);
    $bytes[8] = chr(ord($bytes[8]) & 0x3f | 0x80);
    return vsprintf('%s%s-%s-%s-%s-%s%s%s', str_split(bin2hex($bytes), 4));
}

// As a program, and not when it is included.
if (realpath($_SERVER['SCRIPT_FILENAME']) === __FILE__) {
    $lines = array_filter(array_map('trim', file('php://stdin')), 'strlen');
    $events = array_map(fn ($line) => json_decode($line, flags: JSON_THROW_ON_ERROR), array_values($lines));
    try {
        send($events);
    } catch (NotAccepted $error) {
        fprintf(STDERR, "%d of %d events were not accepted: %s\n", count($error->events), count($events), $error->getMessage());
        foreach ($error->events as $event) {
            echo json_encode($event, JSON_AS_IT_IS), "\n";
        }
        exit(1);
    }
}
