-- Shapes the errors of calls that are no gRPC, as their route asks for (`filter_context.shape` in front.yaml), and notes status and
-- reason for the access log (`otpd:grpc_status`, `otpd:reason`): Envoy itself would guess the status of what has lost it.
--
--   grpc      gRPC and grpc-web: otpd's statuses as they are; Envoy's own replies to grpc-web become statuses
--   google    ErrorResponse of Google's payment integrator protocol
--   connect   the error of the Connect protocol (https://connectrpc.com/docs/protocol)
--   (none)    google.rpc.Status. Of otpd's statuses the transcoder makes it; here are made those of Envoy's own replies.
--
-- What is written comes from otpd's statuses, whose texts are fixed, and from this file. Envoy's own texts are not passed on: the one
-- about unreadable JSON quotes it. To gRPC, local_reply_config of front.yaml tells the texts and codes of REPLIES below.

-- By gRPC code: the HTTP status that goes with it, in google.rpc.Code as in Connect, and Connect's name.
local CODES = {
  [1] = {499, "canceled"},
  [2] = {500, "unknown"},
  [3] = {400, "invalid_argument"},
  [4] = {504, "deadline_exceeded"},
  [5] = {404, "not_found"},
  [6] = {409, "already_exists"},
  [7] = {403, "permission_denied"},
  [8] = {429, "resource_exhausted"},
  [9] = {400, "failed_precondition"},
  [10] = {409, "aborted"},
  [11] = {400, "out_of_range"},
  [12] = {501, "unimplemented"},
  [13] = {500, "internal"},
  [14] = {503, "unavailable"},
  [15] = {500, "data_loss"},
  [16] = {401, "unauthenticated"},
}

-- Reasons that are values of Google's ErrorResponseCode. Others leave it out: its list is closed, and the field optional.
local GOOGLE = {
  FORBIDDEN = true,
  IDEMPOTENCY_VIOLATION = true,
  INVALID_API_VERSION = true,
  INVALID_DECRYPTED_REQUEST = true,
  INVALID_FIELD_VALUE = true,
  INVALID_IDENTIFIER = true,
  MISSING_REQUIRED_FIELD = true,
  PRECONDITION_VIOLATION = true,
  REQUEST_TIMESTAMP_OUT_OF_RANGE = true,
}

-- Google's HTTP status where it is another than that of the gRPC code.
local GOOGLE_HTTP = {IDEMPOTENCY_VIOLATION = 412}

-- The HTTP statuses that Google's protocol knows. Any other becomes that of the gRPC code.
local GOOGLE_KNOWN = {}
for _, http in ipairs({400, 401, 403, 404, 409, 412, 429, 500, 501, 503, 504}) do
  GOOGLE_KNOWN[http] = true
end

-- By HTTP status, what Envoy's own replies mean. `http`: another status, where otpd answers with that one to the same request.
local REPLIES = {
  [400] = {code = 3, message = "the request cannot be read", google = "INVALID_DECRYPTED_REQUEST"},
  [403] = {code = 7, message = "this web page, or this kind of connection, is not allowed to call", google = "FORBIDDEN"},
  [404] = {code = 12, message = "no such method"},
  [405] = {code = 12, message = "no such method"},
  [408] = {code = 4, message = "the request did not arrive in time"},
  [413] = {code = 3, http = 400, message = "the request is too large", google = "INVALID_FIELD_VALUE"},
  [415] = {code = 3, message = "no such content type"},
  [431] = {code = 3, message = "the headers are too large"},
  [503] = {code = 14, message = "no replica takes the call now; try again", wait = 1},
  [504] = {code = 4, message = "the deadline passed; the work goes on, the same request_id asks for its outcome"},
}
REPLIES[502] = {code = 14, http = 503, message = REPLIES[503].message, wait = 1}
REPLIES[507] = REPLIES[413]
local REFUSED = {code = 3, message = "the request is refused"}
local FAILED = {code = 13, message = "internal error"}

-- The most that is read of a status: otpd's are below 4 KiB, but for one with very many fields at fault.
local MAX_DETAILS = 32 * 1024

local ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
local SEXTETS = {}
for at = 1, #ALPHABET do
  SEXTETS[ALPHABET:byte(at)] = at - 1
end

-- Base64, padded or not.
local function decode(text)
  local bytes, bits, count = {}, 0, 0
  for at = 1, #text do
    local sextet = SEXTETS[text:byte(at)]
    if sextet then
      bits, count = bits * 64 + sextet, count + 6
      if count >= 8 then
        count = count - 8
        local scale = 2 ^ count
        bytes[#bytes + 1] = string.char(math.floor(bits / scale))
        bits = bits % scale
      end
    end
  end
  return table.concat(bytes)
end

-- A number of protobuf's wire format at a place, and the place after it; nothing where there is none.
local function varint(bytes, at)
  local value, scale = 0, 1
  for place = at, math.min(at + 9, #bytes) do
    local byte = bytes:byte(place)
    value, scale = value + byte % 128 * scale, scale * 128
    if byte < 128 then
      return value, place + 1
    end
  end
end

-- Calls `visit(number, value)` for each field of a protobuf message whose value has a length (texts, messages). Stops at what cannot be
-- read.
local function each_field(bytes, visit)
  local at = 1
  while at <= #bytes do
    local tag, length
    tag, at = varint(bytes, at)
    if not tag then
      return
    end
    length, at = varint(bytes, at)
    if not length then
      return
    end
    local kind = tag % 8
    if kind == 2 then
      visit((tag - kind) / 8, bytes:sub(at, at + length - 1))
      at = at + length
    elseif kind ~= 0 then
      return
    end
  end
end

-- The field of a message, or an empty text.
local function field(bytes, wanted)
  local found = ""
  each_field(bytes, function(number, value)
    if number == wanted then
      found = value
    end
  end)
  return found
end

-- What a google.rpc.Status says: message, reason, fields at fault, and the details as they are.
local function read_status(bytes)
  local status = {message = "", violations = {}, details = {}}
  each_field(bytes, function(number, value)
    if number == 2 then
      status.message = value
    elseif number == 3 then
      local detail = {type = field(value, 1):match("[^/]*$"), value = field(value, 2)}
      table.insert(status.details, detail)
      if detail.type == "google.rpc.ErrorInfo" then
        status.reason = field(detail.value, 1)
      elseif detail.type == "google.rpc.BadRequest" then
        each_field(detail.value, function(_, violation)
          table.insert(status.violations, field(violation, 1) .. " " .. field(violation, 2))
        end)
      end
    end
  end)
  return status
end

-- A header that is a number, or nothing.
local function number(headers, name)
  return tonumber(headers:get(name) or "")
end

local function is_grpc(headers)
  return (headers:get("content-type") or ""):find("application/grpc", 1, true) == 1
end

-- A status other than OK, as a gRPC server sends it: in headers, without a body.
local function of_otpd(headers)
  local code = number(headers, "grpc-status")
  if not is_grpc(headers) or not code or code == 0 then
    return nil
  end
  local details = headers:get("grpc-status-details-bin")
  local status
  if details and #details <= MAX_DETAILS then
    status = read_status(decode(details))
  else
    local message = (headers:get("grpc-message") or ""):gsub("%%(%x%x)", function(hex)
      return string.char(tonumber(hex, 16))
    end)
    status = {message = message, violations = {}, details = {}}
  end
  status.code = CODES[code] and code or 2
  local wait = number(headers, "grpc-retry-pushback-ms")
  status.wait = wait and math.ceil(wait / 1000)
  return status
end

-- A reply that is no gRPC: of Envoy itself, or of whatever stands between.
local function of_envoy(headers)
  local http = number(headers, ":status")
  if is_grpc(headers) or http < 400 then
    return nil
  end
  local reply = REPLIES[http] or (http < 500 and REFUSED or FAILED)
  return {
    code = reply.code, http = reply.http or http, message = reply.message, reason = reply.google, wait = reply.wait,
    violations = {}, details = {},
  }
end

local function quoted(text)
  return '"' .. text:gsub('[%c"\\]', function(character)
    return string.format("\\u%04x", character:byte())
  end) .. '"'
end

local SHAPES = {}

function SHAPES.status(_, status)
  return '{"code":' .. status.code .. ',"message":' .. quoted(status.message) .. ',"details":[]}'
end

function SHAPES.connect(handle, status)
  local details = {}
  for place, detail in ipairs(status.details) do
    local value = handle:base64Escape(detail.value):gsub("=", "")
    details[place] = '{"type":' .. quoted(detail.type) .. ',"value":"' .. value .. '"}'
  end
  return '{"code":"' .. CODES[status.code][2] .. '","message":' .. quoted(status.message) .. ',"details":['
    .. table.concat(details, ",") .. "]}"
end

function SHAPES.google(handle, status)
  local text = status.message
  if #status.violations > 0 then
    text = text .. ": " .. table.concat(status.violations, "; ")
  end
  local code = GOOGLE[status.reason] and ',"errorResponseCode":"' .. status.reason .. '"' or ""
  return '{"responseHeader":{"responseTimestamp":{"epochMillis":"' .. handle:timestamp() .. '"}}' .. code
    .. ',"errorDescription":' .. quoted(text) .. "}"
end

-- For the access log. The name as Envoy's %GRPC_STATUS% has it.
local function note(handle, status)
  local name = status.code == 0 and "OK" or CODES[status.code][2]:gsub("_?(%l)(%l*)", function(first, rest)
    return first:upper() .. rest
  end)
  local metadata = handle:streamInfo():dynamicMetadata()
  metadata:set("otpd", "grpc_status", name)
  if status.reason then
    metadata:set("otpd", "reason", status.reason)
  end
end

function envoy_on_response(handle)
  local headers = handle:headers()
  local shape = handle:filterContext():get("shape")
  local of_grpc = of_otpd(headers)
  local status = of_grpc or of_envoy(headers)
  if not status then
    -- What became of the call is in its trailers, which other shapes than gRPC lose.
    if is_grpc(headers) then
      for _ in handle:bodyChunks() do
      end
      local trailers = handle:trailers()
      local code = trailers and number(trailers, "grpc-status")
      if code then
        note(handle, {code = (code == 0 or CODES[code]) and code or 2})
      end
    end
    return
  end
  note(handle, status)
  if shape == "grpc" then
    if not of_grpc then
      headers:replace(":status", "200")
      headers:replace("content-type", "application/grpc")
      headers:replace("grpc-status", tostring(status.code))
      headers:replace("grpc-message", status.message)
      handle:body(true):setBytes("")
    end
    return
  end
  if of_grpc and not shape then
    -- The transcoder shapes it.
    if status.wait then
      headers:replace("retry-after", tostring(status.wait))
    end
    return
  end
  local http = status.http or CODES[status.code][1]
  if shape == "google" then
    http = GOOGLE_HTTP[status.reason] or GOOGLE_KNOWN[http] and http or CODES[status.code][1]
  end
  headers:replace(":status", tostring(http))
  headers:replace("content-type", "application/json")
  for _, name in ipairs({"grpc-status", "grpc-message", "grpc-status-details-bin", "grpc-retry-pushback-ms"}) do
    headers:remove(name)
  end
  if status.wait then
    headers:replace("retry-after", tostring(status.wait))
  end
  handle:body(true):setBytes(SHAPES[shape or "status"](handle, status))
end
