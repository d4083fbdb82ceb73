# A merchant's app in Ruby: who may come in, what holds while PHANTOM is away, and events.
#
#   gem install webrick
#   SHIELD_URL=http://127.0.0.1:8081 SHIELD_KEY=phs_… WEBHOOK_SECRET=whsec_… PORT=3000 ruby app.rb
#
# SHIELD_URL is the server, or `phantom edge` beside this app.

require "base64"
require "json"
require "net/http"
require "openssl"
require "webrick"

missing = %w[SHIELD_URL SHIELD_KEY WEBHOOK_SECRET].select { |name| ENV[name].to_s.empty? }
abort "Please set #{missing.join(", ")}. POST /api/endpoints answers with the secret." unless missing.empty?
SECRET = Base64.decode64(ENV.fetch("WEBHOOK_SECRET").delete_prefix("whsec_"))
KNOWN = {} # what PHANTOM said last of each customer

def may_use?(customer)
  url = URI("#{ENV.fetch("SHIELD_URL")}/api/shield/customers/#{URI.encode_www_form_component(customer)}")
  answer = Net::HTTP.start(url.host, url.port, use_ssl: url.scheme == "https", open_timeout: 0.5, read_timeout: 0.5) do |http|
    http.get(url.path, "Authorization" => "Bearer #{ENV.fetch("SHIELD_KEY")}")
  end
  raise "PHANTOM has answered #{answer.code}" unless answer.code == "200"
  KNOWN[customer] = JSON.parse(answer.body).fetch("access")
rescue StandardError => e
  warn "access: #{e.message}"
  KNOWN.fetch(customer, true) # a fault of ours locks nobody out
end

# The gem "standardwebhooks" does the same.
def genuine?(request)
  id, at, signatures = %w[webhook-id webhook-timestamp webhook-signature].map { |name| request[name].to_s }
  return false unless at.match?(/\A\d+\z/) && (Time.now.to_i - at.to_i).abs <= 300
  want = "v1," + Base64.strict_encode64(OpenSSL::HMAC.digest("SHA256", SECRET, "#{id}.#{at}.#{request.body}"))
  signatures.split(" ").any? { |given| OpenSSL.secure_compare(given, want) }
end

app = WEBrick::HTTPServer.new(BindAddress: "127.0.0.1", Port: ENV.fetch("PORT", "3000").to_i)
app.mount_proc "/" do |request, response|
  # Your session says who this is. A header that a visitor can set does not.
  customer = request["X-Customer"].to_s
  if customer.empty?
    response.status, response.body = 401, "Please sign in.\n"
  elsif may_use?(customer)
    response.body = "Welcome.\n"
  else
    response.status, response.body = 402, "Please look at your billing page.\n"
  end
end
app.mount_proc "/hooks" do |request, response|
  if request.request_method == "POST" && genuine?(request)
    event = JSON.parse(request.body)
    puts "event #{event["type"]} #{event.dig("data", "customer")}"
    may_use?(event.dig("data", "customer")) if event["type"] == "access.changed"
    response.status = 204
  else
    response.status = 400
  end
end
trap("TERM") { app.shutdown }
app.start
