-- Prepares requests that are no gRPC, as their route asks for (`filter_context` in front.yaml):
--
--   path      the method's path, for a request that comes by another
--   connect   "post" or "get": a call of the Connect protocol with its message in JSON

-- A value of a query, without its escapes.
local function query(path, name)
  for key, value in path:gmatch("[?&]([^=&]*)=([^&]*)") do
    if key == name then
      return (value:gsub("+", " "):gsub("%%(%x%x)", function(hex)
        return string.char(tonumber(hex, 16))
      end))
    end
  end
end

-- A call by GET has its message in its path (https://connectrpc.com/docs/protocol#unary-get-request). It becomes the body. Clients write
-- JSON there as it is; in base64 it is refused.
local function move_message(handle, headers)
  local path = headers:get(":path")
  if query(path, "base64") == "1" then
    -- A gRPC status, to which errors.lua gives Connect's shape.
    local message = "JSON is taken as it is, without base64"
    handle:respond({
      [":status"] = "200", ["content-type"] = "application/grpc", ["grpc-status"] = "3", ["grpc-message"] = message,
    }, message)
    return
  end
  headers:replace(":method", "POST")
  headers:replace(":path", (path:gsub("%?.*", "")))
  headers:replace("content-type", "application/json")
  handle:body(true):setBytes(query(path, "message") or "")
end

function envoy_on_request(handle)
  local route, headers = handle:filterContext(), handle:headers()
  local path, connect = route:get("path"), route:get("connect")
  if path then
    headers:replace(":path", path)
  end
  if not connect then
    return
  end
  -- JSON like any other now, but for its errors.
  headers:remove("connect-protocol-version")
  local timeout = headers:get("connect-timeout-ms") or ""
  -- gRPC allows 8 digits. What has more, over a day, is longer than any call may take.
  if timeout:match("^%d+$") and #timeout <= 8 then
    headers:replace("grpc-timeout", timeout .. "m")
  end
  if connect == "get" then
    move_message(handle, headers)
  end
end
